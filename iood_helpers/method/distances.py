"""How far the pixels of one image lie from what is normal for their class: measured once, used by every rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.ndimage import gaussian_filter

from ..errors import RefinementError
from ..renamed import old_names
from .embedder import PixelEmbedder, grid_pixels
from .kmeans import ClassKMeans

if TYPE_CHECKING:
    from ..model.segmenter import Prediction


class Distances:
    """Distances of one image's pixels to the centres of their predicted classes, computed when first asked for.

    Parameters
    ----------
    prediction : Prediction
        Output of the segmenter for the image.
    kmeans : ClassKMeans
        Fitted centres.
    embedder : PixelEmbedder
        The one whose vectors ``kmeans`` was fitted on.
    """

    def __init__(self, prediction: Prediction, kmeans: ClassKMeans, embedder: PixelEmbedder) -> None:
        self.prediction, self.kmeans, self.embedder = prediction, kmeans, embedder

    @cached_property
    def classes(self) -> np.ndarray:
        """Predicted class of each cell of the logits' grid, (h, w) int64."""
        # A cell's vector is read at its exact centre, where the upsampled logits are the cell's own. A store's rows are
        # whole pixels, a fraction of a cell beside it, and take the class there (they differ in 2 % of the cells).
        return self.prediction.logits.argmax(0)

    @cached_property
    def scaled(self) -> np.ndarray:
        """Distance of each cell's vector to the nearest centre of its class in the class's scale, (h, w) float32."""
        classes = self.classes.ravel()
        return self._measure(lambda vectors, part: self.kmeans.scaled_distance(vectors, classes[part]))

    @cached_property
    def shared(self) -> np.ndarray:
        """Distance of each cell's vector to the nearest centre shared by all classes, (h, w) float32.

        Raises
        ------
        RefinementError
            If the clusters have no shared centres.
        """
        if not len(self.kmeans.shared_centers_):
            raise RefinementError("The clusters have no shared centres; fit them with ClassKMeans(n_shared=1000).")
        return self._measure(lambda vectors, _: self.kmeans.shared_distance(vectors))

    def _measure(self, distance: Callable[[np.ndarray, slice], np.ndarray]) -> np.ndarray:
        measured = np.empty(self.classes.size, np.float32)
        cells = grid_pixels(self.classes.shape, self.prediction.shape)
        for part, vectors in self.embedder.batches(self.prediction, cells):
            check_length(self.kmeans, vectors)
            measured[part] = distance(vectors, part)
        return measured.reshape(self.classes.shape)

    def averaged(self, smooth: float = 2.0, segment: float = 0.5) -> np.ndarray:
        """Distance to the nearest shared centre, averaged over the neighborhood and over the segment of each cell.

        Parameters
        ----------
        smooth : float, default=2.0
            Standard deviation of the Gaussian, in cells of the logits' grid; 0 for none.
        segment : float, default=0.5
            Share of the mean over the cell's segment, 0..1: the connected cells with the same predicted class.

        Returns
        -------
        numpy.ndarray
            (h, w) float32.

        Raises
        ------
        RefinementError
            If the clusters have no shared centres.
        """
        near = gaussian_filter(self.shared, smooth, mode="nearest") if smooth > 0 else self.shared
        segments, count = np.zeros(self.classes.shape, np.int64), 0
        for c in np.unique(self.classes):
            parts, number = ndimage.label(self.classes == c)
            segments[parts > 0] = parts[parts > 0] + count
            count += number
        means = ndimage.mean(near, segments, np.arange(1, count + 1))
        return ((1 - segment) * near + segment * means[segments - 1]).astype(np.float32)

    def novelty(self, quantile: float = 0.85, smooth: float = 4.0) -> np.ndarray:
        """How far each pixel lies from what is normal for its predicted class, at the size of the image.

        Parameters
        ----------
        quantile : float, default=0.85
            Share of calibration pixels whose distance counts as 1 or less, 0..1.
        smooth : float, default=4.0
            Standard deviation of the Gaussian that averages neighbours, in cells of the logits' grid; 0 for none.

        Returns
        -------
        numpy.ndarray
            (H, W) float32, 0 and up; above 1 is farther than the given share of calibration pixels.

        Raises
        ------
        RefinementError
            If the clusters are not calibrated.
        """
        relative = self.relative(quantile)
        if smooth > 0:
            relative = gaussian_filter(relative, smooth, mode="nearest")
        return upsample(relative, self.prediction.shape)

    def relative(self, quantile: float) -> np.ndarray:
        """Distance of each cell in units of what a share ``quantile`` of calibration pixels stays below, (h, w)."""
        self._ask_for_calibration()
        usual = self.kmeans.calibration_quantile(self.classes.ravel(), quantile).reshape(self.classes.shape)
        return self.scaled / np.maximum(usual, 1e-6)

    def beyond(self, alpha: float) -> np.ndarray:
        """Pixels, (H, W) bool, whose tail probability is below ``alpha``, 0..1."""
        self._ask_for_calibration()
        tail = self.kmeans.tail_probability(self.scaled.ravel(), self.classes.ravel()).reshape(self.classes.shape)
        return upsample(tail < alpha, self.prediction.shape) > 0.5

    def _ask_for_calibration(self) -> None:
        if not getattr(self.kmeans, "quantiles_", None):
            raise RefinementError("The clusters are not calibrated; call ClassKMeans.calibrate first.")


def upsample(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Map (h, w) at the size (H, W) of the image, bilinear, float32."""
    grid = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    return F.interpolate(grid, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def check_length(kmeans: ClassKMeans, vectors: np.ndarray) -> None:
    """RefinementError unless the vectors (n, D) are as long as those that the clusters were fitted on."""
    if vectors.shape[1] != kmeans.n_features_in_:
        raise RefinementError(
            f"The vectors have {vectors.shape[1]} numbers, but the clusters were fitted on {kmeans.n_features_in_}; "
            "use the embedder of the fit."
        )


__getattr__ = old_names(__name__, {"enlarge": "upsample"})
