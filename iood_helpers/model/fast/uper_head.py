"""UPerNet's head for prediction: convolve first, upsample afterwards.

mmseg's head upsamples three of its four maps to the size of the finest, joins all four, and sends them through one
3x3 convolution, which is three quarters of the head's arithmetic. Upsampling and convolution are both linear and act on
different axes, so their order is free: here the nine taps act on each map at its own size, and the results are
upsampled. The 3x3 convolutions that are left on large maps go through ``winograd.py``. The numbers are the same to
float32 rounding, with 28 % of the head's multiplications (T) and no joined map.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import UPerHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from . import winograd

BAND_ROWS = 32  # more would multiply more zeros, fewer would make more and smaller products
Band = tuple[slice, slice, Tensor]
"""Rows and columns of a block, and the block."""


def supports(head: Any) -> bool:
    """Whether :func:`decoder_features` knows this head: mmseg's own, in evaluation mode, with its usual 3x3 layers."""
    if type(head) is not UPerHead or head.training:
        return False
    return all(_is_usual(layer) for layer in (*head.fpn_convs, head.fpn_bottleneck))


def _is_usual(layer: ConvModule) -> bool:
    return (
        tuple(layer.order) == ("conv", "norm", "act")
        and type(layer.conv) is nn.Conv2d
        and layer.conv.kernel_size == (3, 3)
        and layer.conv.stride == layer.conv.dilation == layer.conv.padding == (1, 1)
        and layer.conv.padding_mode == "zeros"
        and layer.conv.groups == 1
        and not layer.with_spectral_norm
    )


def decoder_features(head: UPerHead, inputs: Sequence[Tensor]) -> Tensor:
    """What ``head._forward_feature`` gives: the input of the classifier, (N, D, h, w).

    Parameters
    ----------
    head : UPerHead
        A head that :func:`supports` accepts.
    inputs : sequence of Tensor
        Feature pyramid, as for ``head.forward``.

    Returns
    -------
    Tensor
    """
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in head._transform_inputs(inputs)]
    laterals = [conv(inputs[i]) for i, conv in enumerate(head.lateral_convs)] + [head.psp_forward(inputs)]
    for i in reversed(range(len(laterals) - 1)):
        size = laterals[i].shape[2:]
        laterals[i] = laterals[i] + resize(laterals[i + 1], size, mode="bilinear", align_corners=head.align_corners)
    del inputs  # here and below, a map that has been used makes room for the next
    maps = [_finish(layer, _convolve(laterals.pop(0), layer.conv.weight, layer.conv.bias)) for layer in head.fpn_convs]
    maps += laterals

    merge = head.fpn_bottleneck
    finest, *others = merge.conv.weight.split([m.shape[1] for m in maps], dim=1)
    out = _convolve(maps.pop(0), finest, merge.conv.bias)
    for weight in others:
        add_convolved_upsampling(out, maps.pop(0), weight, head.align_corners)
    return _finish(merge, out)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3x3 convolution in the cheaper way; (N, O, H, W) with channels last in memory."""
    if not winograd.is_faster(x, weight):
        return F.conv2d(x, weight, bias, padding=1).contiguous(memory_format=torch.channels_last)
    out = winograd.conv3x3(x, weight)
    return out if bias is None else out.add_(bias.view(-1, 1, 1))


def _finish(layer: ConvModule, x: Tensor) -> Tensor:
    """Norm and activation of a layer whose convolution is done."""
    x = layer.norm(x) if layer.with_norm else x
    return layer.activate(x) if layer.with_activation else x


def add_convolved_upsampling(out: Tensor, x: Tensor, weight: Tensor, align_corners: bool = False) -> Tensor:
    """``out += conv2d(interpolate(x, size of out, bilinear), weight, padding=1)``, in place.

    Parameters
    ----------
    out : Tensor
        (N, O, H, W), with channels last in memory.
    x : Tensor
        (N, C, h, w), fastest with channels last in memory.
    weight : Tensor
        (O, C, 3, 3).
    align_corners : bool
        As in ``torch.nn.functional.interpolate``.
    """
    n, outputs, height, width = out.shape
    h, w = x.shape[2:]
    total = out.permute(0, 2, 3, 1).view(n, height, width * outputs)
    pixels = x.permute(0, 2, 3, 1).reshape(n * h * w, -1)
    wide = out.new_empty(n * h, width, outputs)
    for taps, down in zip(weight.unbind(2), _down(h, height, align_corners), strict=True):  # rows of the taps
        parts = (pixels @ taps.permute(1, 2, 0).reshape(-1, 3 * outputs)).view(n * h, 3 * w, outputs)
        for large, small, matrix in _across(w, width, align_corners):
            wide[:, large] = matrix.to(parts) @ parts[:, small]
        lines = wide.view(n, h, width * outputs)
        for large, small, matrix in down:
            total[:, large].baddbmm_(matrix.to(out).expand(n, -1, -1), lines[:, small])
    return out


@lru_cache(maxsize=32)
def _across(small: int, large: int, align_corners: bool) -> list[Band]:
    """Upsamples a line whose elements are (pixel, tap), each tap shifted by its place, and adds the taps."""
    shifted = _upsample_and_shift(small, large, align_corners)
    return _bands(shifted.permute(1, 2, 0).reshape(large, 3 * small))


@lru_cache(maxsize=32)
def _down(small: int, large: int, align_corners: bool) -> list[list[Band]]:
    """For each of the three taps: upsamples a line and shifts it."""
    return [_bands(matrix) for matrix in _upsample_and_shift(small, large, align_corners)]


def _upsample_and_shift(small: int, large: int, align_corners: bool) -> Tensor:
    """Three matrices (large, small): a line upsampled, as the upper, middle and lower tap see it; zero outside."""
    upsample = F.interpolate(torch.eye(small)[None], large, mode="linear", align_corners=align_corners)[0].T
    padded = F.pad(upsample, (0, 0, 1, 1))
    return torch.stack([padded[shift : shift + large] for shift in range(3)])


def _bands(matrix: Tensor) -> list[Band]:
    """A matrix with few numbers around its diagonal, some rows at a time, without the columns that are zero there."""
    bands = []
    for first in range(0, len(matrix), BAND_ROWS):
        rows = slice(first, first + BAND_ROWS)
        used = matrix[rows].any(0).nonzero()
        if len(used):
            columns = slice(int(used.min()), int(used.max()) + 1)
            bands.append((rows, columns, matrix[rows, columns].contiguous()))
    return bands
