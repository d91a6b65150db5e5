"""The rule of the challenge entry, to the letter, and the flaws of its code, for the audit (notebook 07)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..checks import train_ids
from ..datasets.labels import NUM_CLASSES
from ..errors import ClusteringError, EmbeddingError
from .distances import Distances, check_length
from .embedder import PixelEmbedder
from .kmeans import ClassKMeans
from .options import check_confidence, check_options

if TYPE_CHECKING:
    from ..model.segmenter import Prediction


@dataclass(frozen=True)
class PublishedRule:
    """Among unsure pixels, those far from their centres get one constant as confidence.

    Among pixels with confidence below ``confidence_threshold``, one of predicted class k is out of distribution if its
    distance to the nearest centre of k exceeds ``factor`` times the mean distance of all such pixels to all centres of
    k. Its confidence becomes ``replacement``.

    Attributes
    ----------
    confidence_threshold : float, default=0.5
        0 and up; above 1 every pixel counts as unsure.
    factor : float, default=1.1
        Positive.
    replacement : float, default=0.0001
        0..1.
    """

    confidence_threshold: float = 0.5
    factor: float = 1.1
    replacement: float = 0.0001

    def __post_init__(self) -> None:
        check_options(self, confidence_threshold=(0, np.inf), factor=(1e-9, np.inf), replacement=(0, 1))

    def apply(self, prediction: Prediction, distances: Distances) -> tuple[np.ndarray, np.ndarray]:
        """Confidence (H, W) float32 and mask of changed pixels (H, W) bool."""
        check_confidence(prediction.confidence)
        kmeans = distances.kmeans
        mask = np.zeros(prediction.shape, bool)
        pixels = np.argwhere(prediction.confidence < self.confidence_threshold)
        classes = prediction.classes[pixels[:, 0], pixels[:, 1]]
        known = np.isin(classes, list(kmeans.centers_))
        pixels, classes = pixels[known], classes[known]
        nearest, total = np.empty(len(pixels), np.float32), np.zeros(NUM_CLASSES)
        if len(pixels):
            for part, vectors in distances.embedder.batches(prediction, pixels):
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


def with_fresh_projection(embedder: PixelEmbedder, seed: int) -> PixelEmbedder:
    """Copy of an embedder with another random projection.

    The published code initialises its projection anew between fitting and predicting, so that it compares vectors with
    centres of another space.

    Raises
    ------
    EmbeddingError
        If the projection is not random.
    """
    if embedder.projection != "random":
        raise EmbeddingError("Only a random projection can be drawn anew; set projection='random'.")
    fresh = PixelEmbedder(**{**embedder.parameters, "seed": seed})
    fresh.mean_, fresh.scale_ = embedder.mean_, embedder.scale_
    return fresh


def fit_per_image(kmeans: ClassKMeans, X: np.ndarray, y: np.ndarray, images: np.ndarray) -> ClassKMeans:
    """Fit a model as the published code does: anew on each image, so that only the last one that holds a class counts.

    Parameters
    ----------
    kmeans : ClassKMeans
        The model to fit.
    X, y : numpy.ndarray
        As in :meth:`ClassKMeans.fit`.
    images : numpy.ndarray
        (n,) image of each vector.

    Raises
    ------
    ClusteringError
        As :meth:`ClassKMeans.fit`, and if ``images`` and ``y`` differ in shape.
    """
    y, images = train_ids(y, len(X), ClusteringError), np.asarray(images)
    if images.shape != y.shape:
        raise ClusteringError(f"Images {images.shape} and classes {y.shape} do not fit.")
    counts = np.zeros(len(y), bool)
    for c in np.unique(y):
        counts |= (y == c) & (images == images[y == c][-1])
    return kmeans.fit(np.asarray(X)[counts], y[counts])
