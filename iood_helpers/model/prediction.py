"""What is predicted for one image: by the segmenter, or by a network of another framework."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from ..errors import ParameterError
from ..renamed import warn

MAX_CLASSES = 255
"""As many as 8 bits tell apart from void."""


@dataclass(frozen=True)
class Prediction:
    """What the segmenter predicts for one image of H x W pixels.

    Attributes
    ----------
    classes : ndarray of uint8, shape (H, W)
        Train id of the most likely class, 0..18.
    confidence : ndarray of float32, shape (H, W)
        Maximum soft-max probability, 0..1.
    logits : ndarray of float32, shape (19, h, w)
        Classifier output before upsampling, in cells of the network's own stride (4 or 8, mostly).
    features : tuple of ndarrays of float32, shapes (C_k, h_k, w_k)
        Backbone maps from the finest to the coarsest, as many as the backbone gives.
    decoder : ndarray of float32, shape (D, h, w)
        Input of the classifier.
    """

    classes: np.ndarray
    confidence: np.ndarray
    logits: np.ndarray
    features: tuple[np.ndarray, ...]
    decoder: np.ndarray

    @classmethod
    def from_arrays(
        cls,
        features: ArrayLike,
        logits: ArrayLike,
        shape: tuple[int, int],
        *,
        decoder: ArrayLike | None = None,
    ) -> Prediction:
        """What any network gives for an image, ready for every detector, embedder and rule of this package.

        Parameters
        ----------
        features : array_like, or list or tuple of array_like
            A map (C, h, w), or several from the finest to the coarsest.
        logits : array_like
            (K, h, w), the classifier's output before upsampling and soft-max; ``ClassKMeans`` takes at most 19 classes.
        shape : (int, int)
            Height and width of the image; logits are upsampled to it bilinearly.
        decoder : array_like, optional
            (D, h, w), what the classifier sees; the finest feature map if not given.

        Returns
        -------
        Prediction

        Raises
        ------
        ParameterError
            If there is no map, or one is not (C, h, w) finite numbers, there are too many classes, or the image has no
            pixels.
        """
        given = features if isinstance(features, list | tuple) else (features,)
        maps = tuple(_map("Features", feature) for feature in given)
        if not maps:
            raise ParameterError("There are no features; give a map (C, h, w), or several.")
        scores = _map("Logits", logits)
        if not 2 <= len(scores) <= MAX_CLASSES:
            raise ParameterError(f"Logits have 2 to {MAX_CLASSES} classes, not {len(scores)}; is the order (K, h, w)?")
        if len(shape) != 2 or min(shape) < 1:
            raise ParameterError(f"The shape of an image is (height, width), not {shape}.")
        upsampled = F.interpolate(torch.from_numpy(scores)[None], tuple(shape), mode="bilinear", align_corners=False)
        confidence, classes = upsampled.softmax(1)[0].max(0)
        return cls(
            classes=classes.to(torch.uint8).numpy(),
            confidence=confidence.numpy(),
            logits=scores,
            features=maps,
            decoder=maps[0] if decoder is None else _map("The decoder's features", decoder),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.classes.shape

    @property
    def size(self) -> tuple[int, int]:
        """The name of ``shape`` up to 0.1.0."""
        warn("Prediction.size", "shape")
        return self.shape


def _map(what: str, values: ArrayLike) -> np.ndarray:
    """A map (C, h, w) of finite numbers as float32."""
    array = np.asarray(values)
    if array.ndim != 3 or not array.size or array.dtype.kind not in "fiu":
        raise ParameterError(f"{what} are maps (C, h, w) of numbers, not {array.shape} of type {array.dtype}.")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise ParameterError(f"{what} hold NaN or infinite values; check image and network.")
    return array
