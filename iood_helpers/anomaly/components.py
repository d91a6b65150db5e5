"""Metrics of whole objects: how many are found, and how many alarms are false, whatever their size.

Definitions: Chan et al., "SegmentMeIfYouCan: A Benchmark for Anomaly Segmentation", NeurIPS 2021, section 4, as the
official code computes them (road-anomaly-benchmark, ``metrics/instance_segmentation.py``):

- Pixels with a score above one threshold are predicted anomalies, void pixels never. Components, of masks and of
  predictions, are connected through sides and corners. Predicted components below a size are dropped; true ones below a
  size become void.
- sIoU of a true component: how many of its pixels are predicted, divided by all its pixels together with those of the
  predicted components that overlap it, but without pixels of other true components.
- PPV of a predicted component: the share of its pixels that are anomalies.
- At a limit t, a true component is found if its sIoU is at least t, and a predicted one is a false alarm if its PPV is
  below t. F1 is 2 TP / (2 TP + FN + FP), and the mean F1 is over t = 0.25, 0.30, ..., 0.75.

sIoU and PPV are averaged over all components of the test set, and counts are added over it before F1 is computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import label

from ..bravo.counts import Counts
from ..errors import MetricsError
from .metrics import checked_maps

LIMITS = np.linspace(0.25, 0.75, 11)
"""Limits t of the mean F1."""


class Track(NamedTuple):
    """Smallest components that count, in pixels of the full image."""

    min_predicted: int
    min_true: int


ANOMALY_TRACK = Track(500, 100)
"""RoadAnomaly21, and Fishyscapes as SegmentMeIfYouCan evaluates it."""

OBSTACLE_TRACK = Track(50, 10)
"""RoadObstacle21 and LostAndFound."""


class ComponentScores(NamedTuple):
    """sIoU of the true components of an image, and PPV of the predicted ones; each of shape (n,), 0..1."""

    siou: np.ndarray
    ppv: np.ndarray


def component_scores(predicted: np.ndarray, anomaly: np.ndarray, void: np.ndarray, track: Track) -> ComponentScores:
    """Compare predicted components with true ones.

    Parameters
    ----------
    predicted, anomaly, void : ndarray of bool, shape (H, W)
        Pixels predicted to be anomalies, anomalous ones, and those that count nowhere.
    track : Track
        Smallest components that count.

    Returns
    -------
    ComponentScores

    Examples
    --------
    >>> anomaly = np.zeros((4, 6), bool); anomaly[1:3, 1:3] = True
    >>> predicted = np.zeros((4, 6), bool); predicted[1:3, 2:5] = True
    >>> component_scores(predicted, anomaly, np.zeros((4, 6), bool), Track(1, 1))
    ComponentScores(siou=array([0.25]), ppv=array([0.33333333]))
    """
    true, large = _components(anomaly & ~void, track.min_true)
    # as in the official code, a background of fewer pixels than an object needs is void, too
    kept = ~void & large[true]
    truth, number = _renumber(true, large)
    found, others = _renumber(*_components(predicted & ~void, track.min_predicted))
    pairs = np.bincount(truth[kept] * (others + 1) + found[kept], minlength=(number + 1) * (others + 1))
    pairs = pairs.reshape(number + 1, others + 1)
    hits, background = pairs[1:, 1:], pairs[0, 1:]
    sizes, areas = pairs[1:].sum(axis=1), pairs[:, 1:].sum(axis=0)
    # of a predicted component that overlaps, pixels of other true components do not count: the background is left
    siou = hits.sum(axis=1) / (sizes + (hits > 0) @ background)
    return ComponentScores(siou, hits.sum(axis=0)[areas > 0] / areas[areas > 0])


def _components(mask: np.ndarray, smallest: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of the component of each pixel (0: none), and which numbers have enough pixels."""
    components, _ = label(mask, np.ones((3, 3)))
    return components, np.bincount(components.ravel()) >= smallest


def _renumber(components: np.ndarray, large: np.ndarray) -> tuple[np.ndarray, int]:
    """Components that are large enough numbered from 1, all else 0; and how many there are."""
    numbers = np.append(0, np.cumsum(large[1:]) * large[1:])
    return numbers[components], int(large[1:].sum())


class ComponentAccumulator(Counts):
    """Sums over the components of one set of images.

    Parameters
    ----------
    threshold : float
        Pixels with a higher score are predicted anomalies. The benchmark takes the threshold with the best F1 over all
        pixels of the set: :meth:`.metrics.AnomalyAccumulator.best_f1_threshold`.
    track : Track
        Smallest components that count.
    name : str, optional
        Set or split, for error messages.

    Attributes
    ----------
    components : ndarray of int64, shape (2,)
        True and predicted components.
    """

    def __init__(self, threshold: float, track: Track = ANOMALY_TRACK, name: str | None = None):
        self.threshold, self.track, self.name = np.float32(threshold), track, name
        self.components = np.zeros(2, np.int64)
        self._sums = np.zeros(2)
        self._found, self._false = np.zeros(len(LIMITS), np.int64), np.zeros(len(LIMITS), np.int64)

    def update(self, scores: Any, anomaly: Any, void: Any = None) -> ComponentAccumulator:
        """Count one image; parameters and errors as for :meth:`.metrics.AnomalyAccumulator.update`."""
        scores, anomaly, kept = checked_maps(scores, anomaly, void, self._of())
        siou, ppv = component_scores(kept & (scores > self.threshold), anomaly, ~kept, self.track)
        self.components += len(siou), len(ppv)
        self._sums += siou.sum(), ppv.sum()
        self._found += (siou[:, None] >= LIMITS).sum(axis=0)
        self._false += (ppv[:, None] < LIMITS).sum(axis=0)
        return self

    def merge(self, other: ComponentAccumulator) -> ComponentAccumulator:
        """Add the sums of ``other``, which stays as it is; returns itself.

        Raises
        ------
        MetricsError
            If the two have different thresholds or tracks.
        """
        if (self.threshold, self.track) != (other.threshold, other.track):
            raise MetricsError(
                f"Components above {self.threshold} of {self.track} and above {other.threshold} of {other.track} "
                "cannot be added; count all images with the same threshold and track."
            )
        self.components += other.components
        self._sums += other._sums
        self._found += other._found
        self._false += other._false
        return self

    def compute(self) -> dict[str, float]:
        """Metrics of all images counted so far.

        Returns
        -------
        dict
            ``siou`` and ``ppv``, means over components (``ppv`` is NaN if no component is predicted), ``f1``, the mean
            over ``LIMITS``, and ``f1_25``, ``f1_50``, ``f1_75`` at single limits; all 0..1.

        Raises
        ------
        MetricsError
            If there is no true component.
        """
        true, predicted = self.components
        if not true:
            raise MetricsError(
                f"The component metrics{self._of()} are not defined, since no anomaly has {self.track.min_true} "
                "pixels; add images with anomalies, or check the masks."
            )
        f1 = 2 * self._found / (self._found + true + self._false)
        single = {f"f1_{round(100 * LIMITS[i])}": float(f1[i]) for i in (0, 5, 10)}
        return {
            "siou": float(self._sums[0] / true),
            "ppv": float(self._sums[1] / predicted) if predicted else float("nan"),
            "f1": float(f1.mean()),
        } | single
