"""What every detector learns from and offers, and what is done with its maps.

A detector is made with its settings, learns from ordinary pixels by ``fit(bank)``, and gives ``score(prediction)``:
(h, w) float32 on the grid of the logits, higher is stranger. None of them sees a label of a test image or an unknown
object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.ndimage import gaussian_filter

from ..method.embedder import Level, PixelEmbedder

if TYPE_CHECKING:
    from ..method.store import Embeddings
    from ..model.segmenter import Prediction


@dataclass(frozen=True)
class FeatureBank:
    """Ordinary pixels to learn from.

    Attributes
    ----------
    embedder
        Makes the vectors (standardised, fitted).
    vectors, label
        (n, D) float32 and (n,) true classes of pixels to fit on.
    decoder, logits
        (n, d) and (n, 19): what the classifier sees and says at these pixels.
    calibration_vectors, calibration_predicted
        Pixels of other images with their predicted classes, to calibrate on.
    calibration_images
        Predictions of a few of these images, for scores that are measured on whole maps.
    """

    embedder: PixelEmbedder
    vectors: np.ndarray
    label: np.ndarray
    decoder: np.ndarray
    logits: np.ndarray
    calibration_vectors: np.ndarray
    calibration_predicted: np.ndarray
    calibration_images: Sequence[Prediction] = ()

    @classmethod
    def from_rows(
        cls,
        rows: Embeddings,
        held: Embeddings,
        widths: Mapping[Level, int],
        levels: Sequence[Level],
        *,
        standardize: bool = True,
        calibration_images: Sequence[Prediction] = (),
    ) -> FeatureBank:
        """Bank for some levels from rows that hold more.

        Parameters
        ----------
        rows, held
            Raw vectors of pixels to fit on and to calibrate on.
        widths
            Numbers that each level has in these vectors, in their order; "decoder" and "logits" must be among them.
        levels
            Levels that the distances shall see, in the order of ``widths``.
        standardize
            Whether each channel is standardised.
        calibration_images
            As above.
        """
        ends = np.cumsum(list(widths.values()))
        columns = {level: np.arange(end - widths[level], end) for level, end in zip(widths, ends, strict=True)}
        chosen = np.concatenate([columns[level] for level in levels])
        embedder = PixelEmbedder(levels, standardize=standardize).fit(rows.embeddings[:, chosen])
        return cls(
            embedder=embedder,
            vectors=embedder.apply(rows.embeddings[:, chosen]),
            label=rows.label,
            decoder=rows.embeddings[:, columns["decoder"]],
            logits=rows.embeddings[:, columns["logits"]],
            calibration_vectors=embedder.apply(held.embeddings[:, chosen]),
            calibration_predicted=held.predicted,
            calibration_images=calibration_images,
        )


class Detector(Protocol):
    """What every score offers."""

    def fit(self, bank: FeatureBank) -> Detector:
        """Learn from ordinary pixels."""

    def score(self, prediction: Prediction) -> np.ndarray:
        """(h, w) float32, higher is stranger."""


class Untrained:
    """Base of scores that need nothing but the logits."""

    def fit(self, bank: FeatureBank) -> Detector:
        return self


def smoothed(values: np.ndarray, sigma: float = 4.0) -> np.ndarray:
    """Gaussian mean of a map (h, w) over its neighbours, standard deviation in cells."""
    return gaussian_filter(values, sigma, mode="nearest")


def moments(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation (at least 1e-9) of maps of any sizes, over all their cells."""
    values = np.concatenate([np.ravel(one) for one in maps])
    return float(values.mean()), float(max(values.std(), 1e-9))


def as_confidence(values: np.ndarray, middle: float, spread: float) -> np.ndarray:
    """Scores as confidences 0..1 for the metrics, which depend on their order only.

    ``1/2 - arctan((values - middle) / spread) / pi``: falls strictly, and keeps apart what lies far out, where a
    sigmoid would round to 0 or 1.
    """
    return 0.5 - np.arctan((np.asarray(values, np.float64) - middle) / spread) / np.pi


def stored_bytes(score: Detector) -> int:
    """Bytes of all arrays that a fitted score keeps, without the embedder that all share."""
    total, todo = 0, [score]
    while todo:
        item = todo.pop()
        if isinstance(item, np.ndarray):
            total += item.nbytes
        elif isinstance(item, Mapping):
            todo.extend(item.values())
        elif isinstance(item, (list, tuple)):
            todo.extend(item)
        elif hasattr(item, "__dict__") and not isinstance(item, (PixelEmbedder, type)):
            todo.extend(vars(item).values())
    return total
