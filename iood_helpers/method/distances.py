"""How far the pixels of one image lie from what is normal for their class: measured once, used by every rule."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
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
    prediction
        Output of the segmenter for the image.
    kmeans
        Fitted centres.
    embedder
        The one whose vectors ``kmeans`` was fitted on.

    Attributes
    ----------
    classes
        Predicted class of each cell of the logits' grid, (h, w) int64.
    scaled
        Distance of each cell's vector to the nearest centre of its class, in the model's units, (h, w) float32.
    """

    def __init__(self, prediction: Prediction, kmeans: ClassKMeans, embedder: PixelEmbedder) -> None:
        self.prediction, self.kmeans, self.embedder = prediction, kmeans, embedder

    @cached_property
    def classes(self) -> np.ndarray:
        return self.prediction.logits.argmax(0)

    @cached_property
    def scaled(self) -> np.ndarray:
        scaled, classes = np.empty(self.classes.size, np.float32), self.classes.ravel()
        cells = grid_pixels(self.classes.shape, self.prediction.shape)
        for part, vectors in self.embedder.batches(self.prediction, cells):
            check_length(self.kmeans, vectors)
            scaled[part] = self.kmeans.scaled_distance(vectors, classes[part])
        if not np.isfinite(scaled).all():
            raise RefinementError("Some distances are NaN or infinite: features are too large; check the checkpoint.")
        return scaled.reshape(self.classes.shape)

    def novelty(self, quantile: float = 0.85, smooth: float = 4.0) -> np.ndarray:
        """How far each pixel lies from what is normal for its predicted class, at the size of the image.

        Parameters
        ----------
        quantile
            Share of calibration pixels whose distance counts as 1 or less, 0..1.
        smooth
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
        self._ask_for_calibration()
        usual = self.kmeans.calibration_quantile(self.classes.ravel(), quantile).reshape(self.classes.shape)
        relative = self.scaled / np.maximum(usual, 1e-6)
        if smooth > 0:
            relative = gaussian_filter(relative, smooth, mode="nearest")
        return upsample(relative, self.prediction.shape)

    def beyond(self, alpha: float) -> np.ndarray:
        """Pixels, (H, W) bool, whose tail probability is below ``alpha``, 0..1."""
        self._ask_for_calibration()
        tail = self.kmeans.tail_probability(self.scaled.ravel(), self.classes.ravel()).reshape(self.classes.shape)
        return upsample(tail < alpha, self.prediction.shape) > 0.5

    def _ask_for_calibration(self) -> None:
        if not getattr(self.kmeans, "quantiles_", None):
            raise RefinementError(
                "The clusters are not calibrated; call ClassKMeans.calibrate with held-out pixels first."
            )


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
