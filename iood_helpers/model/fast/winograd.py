"""3x3 convolution with 2.25 times fewer multiplications, for wide layers on large maps.

Winograd's minimal filtering F(2 x 2, 3 x 3): each square of 2 x 2 outputs needs 4 x 4 inputs, and once these and the
taps are turned into sums and differences, 16 products per pair of channels do the work of 36. The factors are 0, 1 and
1/2 alone, so the rounding is that of a float32 as in the usual order; larger squares save more and round worse.

Source: Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, arXiv:1509.09308, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
MIN_CHANNELS, MIN_PIXELS = 256, 4096  # below, sums and differences cost more than the products that they save
BAND_SQUARES = 1024  # squares that are worked on at once; bounds the memory


def is_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether :func:`conv3x3` can replace the usual convolution and gains: float32, CPU, wide, large, no gradients."""
    outputs, inputs = weight.shape[:2]
    plain = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (x, weight))
    gradients = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    wide = min(inputs, outputs) >= MIN_CHANNELS and x.shape[2] * x.shape[3] >= MIN_PIXELS
    return plain and wide and not gradients


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """``conv2d(x, weight, padding=1)`` for prediction.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W), fastest with channels last in memory.
    weight : Tensor
        (O, C, 3, 3).

    Returns
    -------
    Tensor
        (N, O, H, W), with channels last in memory.
    """
    n, inputs, height, width = x.shape
    outputs = len(weight)
    down, across = -(-height // 2), -(-width // 2)  # squares
    taps = (torch.kron(TAPS, TAPS) @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(16, inputs, outputs)
    out = x.new_empty(n, down, 2, across, 2, outputs)

    rows = min(down, max(1, BAND_SQUARES // across))
    half_in = x.new_empty(4, rows, 2 * across + 2, inputs)
    whole_in = x.new_empty(4, 4, rows, across, inputs)
    products = x.new_empty(4, 4, rows, across, outputs)
    half_out = x.new_empty(4, 2, rows, across, outputs)
    for image, result in zip(x.permute(0, 2, 3, 1), out, strict=True):
        for first in range(0, down, rows):
            count = min(rows, down - first)
            top, bottom = 2 * first - 1, 2 * (first + count) + 1
            band = image[max(top, 0) : bottom]
            band = F.pad(band, (0, 0, 1, 2 * across + 1 - width, max(-top, 0), max(bottom - height, 0)))
            _differences([band[k : k + 2 * count : 2] for k in range(4)], half_in[:, :count])
            for row in range(4):
                lines = half_in[row, :count]
                _differences([lines[:, k : k + 2 * across : 2] for k in range(4)], whole_in[row, :, :count])
            for position in range(16):
                torch.mm(
                    whole_in[divmod(position, 4)][:count].view(-1, inputs),
                    taps[position],
                    out=products[divmod(position, 4)][:count].view(-1, outputs),
                )
            for column in range(4):
                _sums(products[:, column, :count].unbind(), half_out[column, :, :count].unbind())
            for row in range(2):
                _sums(half_out[:, row, :count].unbind(), result[first : first + count, row].unbind(2))
    return out.view(n, 2 * down, 2 * across, outputs)[:, :height, :width].contiguous().permute(0, 3, 1, 2)


def _differences(x: Sequence[Tensor], out: Tensor) -> None:
    """Four lines of the input to what is multiplied."""
    torch.sub(x[0], x[2], out=out[0])
    torch.add(x[1], x[2], out=out[1])
    torch.sub(x[2], x[1], out=out[2])
    torch.sub(x[1], x[3], out=out[3])


def _sums(x: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Four lines of products to two lines of the output."""
    torch.add(x[0], x[1], out=out[0]).add_(x[2])
    torch.sub(x[1], x[2], out=out[1]).sub_(x[3])
