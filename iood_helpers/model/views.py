"""An image seen at several scales, and flipped: soft-max probabilities are averaged over what is predicted for each.

Source: mmseg's ``SegTTAModel``, which averages soft-max probabilities at the size of the image; images are resized as
its transforms do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ParameterError

LEAST, LARGEST = 0.1, 8


@dataclass(frozen=True)
class Views:
    """Which views of an image are averaged.

    Attributes
    ----------
    scales : tuple of float
        Factors on the sides, 0.1 to 8, each once.
    flip : bool
        Whether each is seen flipped from left to right, too.

    Raises
    ------
    ParameterError
        If there is no scale, or one is impossible or there twice.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        possible = all(isinstance(s, int | float) and LEAST <= s <= LARGEST for s in self.scales)
        if not self.scales or not possible or len(set(self.scales)) < len(self.scales):
            raise ParameterError(f"Scales are different numbers from {LEAST} to {LARGEST}, not {self.scales}.")

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to average."""
        return self.scales == (1.0,) and not self.flip

    def of(self, pixels: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
        """Views of an image (H, W, 3) uint8 but the plain one, and whether each is flipped."""
        height, width = pixels.shape[:2]
        for scale in self.scales:
            resized = pixels
            if scale != 1:
                resized = mmcv.imrescale(pixels, (int(width * scale + 0.5), int(height * scale + 0.5)))
                yield resized, False
            if self.flip:
                yield resized[:, ::-1], True

    def average(
        self, pixels: np.ndarray, plain: Tensor, logits: Callable[[np.ndarray], Tensor], *, align_corners: bool
    ) -> Tensor:
        """Mean soft-max probabilities (1, K, H, W) over all views of an image.

        Parameters
        ----------
        pixels : numpy.ndarray
            (H, W, 3) uint8.
        plain : Tensor
            Logits (1, K, H, W) of the plain view.
        logits : callable
            Logits (1, K, h, w) of another view (h, w, 3), at its size.
        align_corners : bool
            As in ``torch.nn.functional.interpolate``, for the way back to the size of the image.
        """
        if self.is_plain:
            return plain.softmax(1)
        count = int(1 in self.scales)
        total = plain.softmax(1) if count else torch.zeros_like(plain)
        for view, flipped in self.of(pixels):
            found = logits(view)
            found = found.flip(3) if flipped else found
            if found.shape != plain.shape:
                found = F.interpolate(found, plain.shape[2:], mode="bilinear", align_corners=align_corners)
            total += found.softmax(1)
            count += 1
        return total.div_(count)
