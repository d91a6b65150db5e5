"""UPerNet's head for prediction: convolve first, enlarge afterwards.

mmseg's head enlarges three of its four maps to the size of the finest, joins all four, and sends them through one 3x3
convolution, which is three quarters of the head's arithmetic. Enlarging and convolution are both linear and act on
different axes, so their order is free: here the nine taps act on each map at its own size, and what they give is
enlarged. Same numbers to float32 rounding, with 52 % of the head's multiplications (T) and no joined map.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import UPerHead
from mmseg.models.utils import resize
from torch import Tensor


def applies_to(head: torch.nn.Module) -> bool:
    """Whether :func:`decoder_features` knows this head: mmseg's own, in evaluation mode, with its usual 3x3 merge."""
    if type(head) is not UPerHead or head.training:
        return False
    merge = head.fpn_bottleneck
    return (
        tuple(merge.order) == ("conv", "norm", "act")
        and type(merge.conv) is torch.nn.Conv2d
        and merge.conv.kernel_size == (3, 3)
        and merge.conv.stride == merge.conv.dilation == merge.conv.padding == (1, 1)
        and merge.conv.groups == 1
    )


def decoder_features(head: UPerHead, inputs: Sequence[Tensor]) -> Tensor:
    """What ``head._forward_feature`` gives: the input of the classifier, (N, D, h, w).

    Parameters
    ----------
    head
        A head that :func:`applies_to` accepts.
    inputs
        Feature pyramid, as for ``head.forward``.
    """
    inputs = head._transform_inputs(inputs)
    laterals = [conv(inputs[i]) for i, conv in enumerate(head.lateral_convs)] + [head.psp_forward(inputs)]
    for i in reversed(range(len(laterals) - 1)):
        size = laterals[i].shape[2:]
        laterals[i] = laterals[i] + resize(laterals[i + 1], size, mode="bilinear", align_corners=head.align_corners)
    maps = [conv(laterals[i]) for i, conv in enumerate(head.fpn_convs)] + laterals[-1:]

    merge = head.fpn_bottleneck
    weights = merge.conv.weight.split([m.shape[1] for m in maps], dim=1)
    out = F.conv2d(maps[0], weights[0], merge.conv.bias, padding=1).contiguous()
    for x, weight in zip(maps[1:], weights[1:], strict=True):
        add_convolved_enlargement(out, x, weight, head.align_corners)
    if merge.with_norm:
        out = merge.norm(out)
    return merge.activate(out) if merge.with_activation else out


def add_convolved_enlargement(out: Tensor, x: Tensor, weight: Tensor, align_corners: bool = False) -> Tensor:
    """``out += conv2d(interpolate(x, size of out, bilinear), weight, padding=1)``, in place.

    Parameters
    ----------
    out
        (N, O, H, W), contiguous.
    x
        (N, C, h, w).
    weight
        (O, C, 3, 3).
    align_corners
        As in ``torch.nn.functional.interpolate``.
    """
    n, outputs, height, width = out.shape
    small = x.shape[2:]
    down, across = (
        _enlarge_and_shift(s, large, align_corners).to(out) for s, large in zip(small, (height, width), strict=True)
    )
    total = out.view(n * outputs, height, width)
    for row in range(3):  # of the taps
        taps = weight[:, :, row].permute(2, 0, 1).reshape(3 * outputs, -1)
        parts = (taps @ x.flatten(2)).view(n, 3, outputs * small[0], small[1]).unbind(1)
        wide = parts[0].flatten(0, 1) @ across[0].T
        for column in (1, 2):
            wide.addmm_(parts[column].flatten(0, 1), across[column].T)
        total.baddbmm_(down[row].expand(n * outputs, -1, -1), wide.view(n * outputs, small[0], width))
    return out


@lru_cache(maxsize=32)
def _enlarge_and_shift(small: int, large: int, align_corners: bool) -> Tensor:
    """Three matrices (large, small): a line enlarged, as the upper, middle and lower tap see it; zero outside."""
    enlarge = F.interpolate(torch.eye(small)[None], large, mode="linear", align_corners=align_corners)[0].T
    padded = F.pad(enlarge, (0, 0, 1, 1))
    return torch.stack([padded[shift : shift + large] for shift in range(3)])
