"""AUROC, AP and FPR95 over all pixels, within predicted classes, and of the class alone.

Papers on RoadAnomaly, SegmentMeIfYouCan and Fishyscapes report the first three over the pooled pixels of a test set,
anomalies being the positives. Where a network calls most animals *person*, much of them comes from the class alone:
whatever scores persons highly finds animals. Two things show it:

- *within class*: the AUROC among the pixels of one predicted class, averaged over classes with the numbers of their
  anomalous pixels as weights. A score that depends on nothing but the class gets 0.5.
- *class prior*: the same three metrics if each pixel had the mean score of its predicted class.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..bravo.counts import Counts
from ..bravo.histograms import auroc, average_precision, fpr_at_tpr
from ..checks import class_map, mask
from ..datasets.labels import NUM_CLASSES
from ..errors import MetricsError
from .levels import MAX_ENTRIES, LevelCounts, level_scores

_UNKNOWN = NUM_CLASSES
"""Stands for the predicted class where none is given."""


class AnomalyAccumulator(Counts):
    """Counts from which the metrics of one set of images follow; at most 64 MB, however many images it has seen.

    Parameters
    ----------
    name : str, optional
        Set or split, for error messages.
    max_entries : int
        As for ``levels.LevelCounts``. As long as no more distinct pairs of (predicted class, score) occur, metrics are
        those of the scores themselves in float32; beyond that, of scores that are rounded down
        (:data:`.levels.MAX_ENTRIES` says how little that changes).

    Attributes
    ----------
    images : int
    pixels : ndarray of int64, shape (20, 2)
        In-distribution and anomalous pixels of each predicted class, in the last row those without a class.
    """

    def __init__(self, name: str | None = None, max_entries: int = MAX_ENTRIES):
        self.name, self.images = name, 0
        self.pixels = np.zeros((NUM_CLASSES + 1, 2), np.int64)
        self._sums = np.zeros(NUM_CLASSES)
        self._counts = LevelCounts(max_entries)

    def update(self, scores: Any, anomaly: Any, classes: Any = None, void: Any = None) -> AnomalyAccumulator:
        """Count one image.

        Parameters
        ----------
        scores : array, shape (H, W)
            Finite numbers, higher where a pixel is more likely an anomaly; counted in float32.
        anomaly : array, shape (H, W)
            Not zero (True) for anomalous pixels, as ``Sample.invalid`` gives them.
        classes : array of int, shape (H, W), optional
            Predicted train ids 0..18, for the metrics that look at classes; for all images or for none.
        void : array, shape (H, W), optional
            Not zero (True) for pixels that count nowhere, as ``Sample.void`` gives them.

        Returns
        -------
        AnomalyAccumulator
            Itself.

        Raises
        ------
        MetricsError
            If shapes differ, or values are out of range, NaN or infinite; nothing is counted then.
        """
        scores, anomaly, kept = checked_maps(scores, anomaly, void, self._of())
        if classes is None:
            predicted = np.full(scores.shape, _UNKNOWN)
        else:
            predicted = class_map(np.asarray(classes), f"The predicted classes{self._of()}", MetricsError)
            if predicted.shape != scores.shape:
                raise MetricsError(
                    f"The predicted classes{self._of()} have the shape {predicted.shape} and the scores "
                    f"{scores.shape}; resize one of them."
                )
        scores, anomaly, predicted = scores[kept], anomaly[kept], predicted[kept].astype(np.int64)
        groups = 2 * predicted + anomaly
        self._counts.add(groups, scores)
        self.pixels += np.bincount(groups, minlength=self.pixels.size).reshape(self.pixels.shape)
        self._sums += np.bincount(predicted, scores.astype(np.float64), NUM_CLASSES + 1)[:NUM_CLASSES]
        self.images += 1
        return self

    def merge(self, other: AnomalyAccumulator) -> AnomalyAccumulator:
        """Add the counts of ``other``, which stays as it is; returns itself."""
        self._counts.merge(other._counts)
        self.pixels += other.pixels
        self._sums += other._sums
        self.images += other.images
        self.name = self.name or other.name
        return self

    @classmethod
    def total(cls, parts: Iterable[AnomalyAccumulator], max_entries: int = MAX_ENTRIES) -> AnomalyAccumulator:
        """Sum of the counts of all parts, under the name of the first; the parts stay as they are."""
        whole = cls(max_entries=max_entries)
        for part in parts:
            whole.merge(part)
        return whole

    def compute(self) -> dict[str, float]:
        """Metrics of all images counted so far.

        Returns
        -------
        dict
            ``auroc_ood``, ``auprc_ood`` (average precision, AP) and ``fpr95_ood``; with predicted classes also
            ``auroc_within_class`` and ``class_prior_auroc_ood``, ``class_prior_auprc_ood``, ``class_prior_fpr95_ood``.
            All 0..1, as in scikit-learn: ``roc_auc_score``, ``average_precision_score``, and the false-positive rate at
            the first threshold of ``roc_curve`` that finds 95 % of the anomalies.

        Raises
        ------
        MetricsError
            If there is no anomalous or no in-distribution pixel, if some images have predicted classes and others have
            not, or if no predicted class has both kinds of pixels.
        """
        normal, anomalous = self.pixels.sum(axis=0)
        self._need(anomalous, "no pixel is an anomaly", "add images with anomalies, or check the masks")
        self._need(normal, "every pixel is an anomaly", "add images with in-distribution pixels, or check the masks")
        results = _ranking(*self._histograms()[1])
        if self.pixels[_UNKNOWN].any():
            self._need(not self.pixels[:_UNKNOWN].any(), "some have no predicted classes", "give them for all or none")
            return results
        prior = {f"class_prior_{key}": value for key, value in _ranking(*self._class_prior()).items()}
        return results | {"auroc_within_class": self._within_class()} | prior

    def best_f1_threshold(self) -> float:
        """The threshold with the best F1 over all pixels, those with a higher score being predicted anomalies.

        SegmentMeIfYouCan cuts scores there before it looks at components. Of several such thresholds the highest is
        taken; it lies just below the lowest score above it.

        Raises
        ------
        MetricsError
            If there is no anomalous pixel.
        """
        self._need(self.pixels[:, 1].any(), "no pixel is an anomaly", "add images with anomalies, or check the masks")
        levels, (positive, negative) = self._histograms()
        true, predicted = np.cumsum(positive[::-1]), np.cumsum((positive + negative)[::-1])
        best = np.argmax(2 * true / (predicted + positive.sum()))
        return float(np.nextafter(level_scores(levels[::-1][best]), np.float32(-np.inf)))

    def _histograms(self, predicted: int | None = None) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Levels, and how many anomalous and in-distribution pixels of one class or of all have each of them."""
        classes = range(NUM_CLASSES + 1) if predicted is None else [predicted]
        groups = [2 * c + kind for kind in (1, 0) for c in classes if self.pixels[c, kind]]
        levels, counts = self._counts.of(groups)
        kinds = np.array(groups) % 2
        return levels, (counts[kinds == 1].sum(axis=0), counts[kinds == 0].sum(axis=0))

    def _within_class(self) -> float:
        both = np.flatnonzero(self.pixels[:NUM_CLASSES].all(axis=1))
        self._need(len(both), "no predicted class has in-distribution and anomalous pixels", "add images")
        values = [auroc(*self._histograms(int(c))[1]) for c in both]
        return float(np.average(values, weights=self.pixels[both, 1]))

    def _class_prior(self) -> np.ndarray:
        """How many anomalous and in-distribution pixels have each mean score of a class."""
        there = np.flatnonzero(self.pixels[:NUM_CLASSES].any(axis=1))
        places = np.unique(self._sums[there] / self.pixels[there].sum(axis=1), return_inverse=True)[1]
        return np.stack([np.bincount(places, self.pixels[there, kind]) for kind in (1, 0)])


def _ranking(positive: np.ndarray, negative: np.ndarray) -> dict[str, float]:
    return {
        "auroc_ood": float(auroc(positive, negative)),
        "auprc_ood": float(average_precision(positive, negative)),
        "fpr95_ood": float(fpr_at_tpr(positive, negative)),
    }


def checked_maps(scores: Any, anomaly: Any, void: Any, of: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores in float32, where anomalies are, and which pixels count; each of shape (H, W).

    Raises
    ------
    MetricsError
        If shapes differ or are not (H, W), or scores are not finite numbers; ``of`` names the image in the message.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or not scores.size or scores.dtype.kind not in "fiu":
        raise MetricsError(f"The scores{of} are {scores.dtype} {scores.shape}; pass a map (H, W) of numbers.")
    maps = {
        what: np.zeros(scores.shape, bool) if values is None else mask(values, f"The map of {what}{of}", MetricsError)
        for what, values in (("anomalies", anomaly), ("void pixels", void))
    }
    for what, values in maps.items():
        if values.shape != scores.shape:
            raise MetricsError(
                f"The map of {what}{of} has the shape {values.shape} and the scores {scores.shape}; resize one of them."
            )
    with np.errstate(over="ignore"):
        scores = scores.astype(np.float32)
    kept = ~maps["void pixels"]
    if not np.isfinite(scores[kept]).all():
        raise MetricsError(f"The scores{of} hold NaN or values that float32 cannot hold; check the detector.")
    return scores, maps["anomalies"], kept
