"""The rule of the challenge entry, to the letter; its flaws are options, for the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..datasets.labels import NUM_CLASSES
from .distances import Distances, check_length
from .options import check_confidence, check_options

if TYPE_CHECKING:
    from ..model.segmenter import Prediction


@dataclass(frozen=True)
class PublishedRule:
    """Among unsure pixels, those far from their centres get one constant as confidence.

    Among pixels with confidence below ``gate``, one of predicted class k is out of distribution if its distance to the
    nearest centre of k exceeds ``factor`` times the mean distance of all such pixels to all centres of k. Its
    confidence becomes ``replacement``.

    Attributes
    ----------
    gate
        Limit of confidence, 0 and up; above 1 there is none.
    factor
        Positive.
    replacement
        0..1.
    fresh_projection_seed
        If set, pixels are projected by a newly initialised projection instead of the one of the fit: the first flaw of
        the published code (``ClassKMeans(refit_per_image=True)`` is another).
    """

    gate: float = 0.5
    factor: float = 1.1
    replacement: float = 0.0001
    fresh_projection_seed: int | None = None

    def __post_init__(self) -> None:
        check_options(self, gate=(0, np.inf), factor=(1e-9, np.inf), replacement=(0, 1))

    def apply(self, prediction: Prediction, distances: Distances) -> tuple[np.ndarray, np.ndarray]:
        """Confidence (H, W) float32 and mask of changed pixels (H, W) bool."""
        check_confidence(prediction.confidence)
        kmeans, embedder = distances.kmeans, distances.embedder
        if self.fresh_projection_seed is not None:
            embedder = embedder.reinitialised(self.fresh_projection_seed)
        mask = np.zeros(prediction.shape, bool)
        pixels = np.argwhere(prediction.confidence < self.gate)
        classes = prediction.classes[pixels[:, 0], pixels[:, 1]]
        known = np.isin(classes, list(kmeans.centers_))
        pixels, classes = pixels[known], classes[known]
        nearest, total = np.empty(len(pixels), np.float32), np.zeros(NUM_CLASSES)
        if len(pixels):
            for part, vectors in embedder.batches(prediction, pixels):
                check_length(kmeans, vectors)
                for c in np.unique(classes[part]):
                    of_class = classes[part] == c
                    distance = kmeans.distances(vectors[of_class], int(c))
                    nearest[part][of_class] = distance.min(1)
                    total[c] += distance.sum(dtype=np.float64)
        for c in np.unique(classes):
            of_class = classes == c
            mean = total[c] / (of_class.sum() * len(kmeans.centers_[int(c)]))
            far = pixels[of_class][nearest[of_class] > self.factor * mean]
            mask[far[:, 0], far[:, 1]] = True
        confidence = prediction.confidence.copy()
        confidence[mask] = self.replacement
        return confidence, mask
