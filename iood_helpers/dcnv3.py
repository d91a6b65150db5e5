"""DCNv3, the deformable convolution of InternImage, in plain PyTorch.

Every group of channels looks at ``kernel_h * kernel_w`` points around each output pixel. The points are moved by
learned offsets, read by bilinear interpolation (zero outside the map), and averaged with learned, soft-maxed weights.

Source: Wang et al., *InternImage*, arXiv:2211.05778, section 3.1; arithmetic as in the CUDA operator of the official
repository (positions in pixels, no normalisation round trip).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dcnv3(
    value: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    groups: int,
    offset_scale: float = 1.0,
    kernel_size: int | tuple[int, int] = 3,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    softmax: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Sample ``value`` at deformed points and average the samples with ``mask``.

    Parameters
    ----------
    value
        Feature map, shape (N, H, W, C), C divisible by ``groups``.
    offset
        Displacement of each point, shape (N, H_out, W_out, groups * K * 2) with K points per group, ordered
        (group, point, (x, y)); in units of ``offset_scale`` pixels; x is the width direction.
    mask
        Weight of each point, shape (N, H_out, W_out, groups * K), ordered (group, point).
    groups
        Number of channel groups; channel ``group * (C // groups) + i`` belongs to ``group``.
    offset_scale
        Factor on the fixed grid *and* on the learned offsets.
    kernel_size, stride, padding, dilation
        Fixed grid as in a convolution; one number or (height, width). Points are ordered with x slowest.
    softmax
        Whether ``mask`` holds logits that still need the soft-max over the points of each group.
    backend
        ``"torch"``, or ``"auto"`` for the best one available (PyTorch, which runs everywhere and is differentiable).

    Returns
    -------
    torch.Tensor
        Shape (N, H_out, W_out, C), same type and device as ``value``.

    Raises
    ------
    ValueError
        If shapes do not fit together or ``backend`` is unknown.
    """
    if backend not in ("auto", "torch"):
        raise ValueError(f"Unknown DCNv3 backend {backend!r}; use 'auto' or 'torch'.")
    kernel, stride, padding, dilation = (_pair(x) for x in (kernel_size, stride, padding, dilation))
    batch, height, width, channels = value.shape
    points = kernel[0] * kernel[1]
    out_h, out_w = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip((height, width), padding, dilation, kernel, stride, strict=True)
    )
    _check_shapes(channels, groups, offset.shape, mask.shape, (batch, out_h, out_w), points)

    mask = mask.reshape(batch, out_h * out_w, groups, points)
    if softmax:
        mask = mask.softmax(-1)
    positions = _positions(offset, groups, (out_h, out_w), kernel, stride, padding, dilation, offset_scale)
    size = positions.new_tensor((width, height))
    grid = (2 * positions + 1) / size - 1  # pixel centres to grid_sample's coordinates, align_corners=False
    samples = F.grid_sample(
        value.reshape(batch, height * width, groups, -1)
        .permute(0, 2, 3, 1)
        .reshape(batch * groups, channels // groups, height, width),
        grid.transpose(1, 2).reshape(batch * groups, out_h * out_w, points, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    weights = mask.transpose(1, 2).reshape(batch * groups, 1, out_h * out_w, points)
    out = (samples * weights).sum(-1)
    return out.view(batch, channels, out_h * out_w).transpose(1, 2).reshape(batch, out_h, out_w, channels)


def _positions(
    offset: Tensor,
    groups: int,
    out_size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    offset_scale: float,
) -> Tensor:
    """Sampling positions (x, y) in pixels of the unpadded map, shape (N, H_out * W_out, groups, K, 2)."""
    options = {"dtype": offset.dtype, "device": offset.device}
    (out_h, out_w), (kernel_h, kernel_w) = out_size, kernel
    centre_y, centre_x = (dilation[i] * (kernel[i] - 1) // 2 for i in (0, 1))
    grid_x = torch.arange(kernel_w, **options) * dilation[1] - centre_x
    grid_y = torch.arange(kernel_h, **options) * dilation[0] - centre_y
    grid = torch.stack(torch.meshgrid(grid_x, grid_y, indexing="ij"), -1).view(kernel_w * kernel_h, 2)
    column = torch.arange(out_w, **options) * stride[1] - padding[1] + centre_x
    row = torch.arange(out_h, **options) * stride[0] - padding[0] + centre_y
    row, column = torch.meshgrid(row, column, indexing="ij")
    base = torch.stack((column, row), -1).view(out_h * out_w, 1, 1, 2) + grid * offset_scale
    return base + offset.reshape(len(offset), out_h * out_w, groups, -1, 2) * offset_scale


def _check_shapes(channels, groups, offset_shape, mask_shape, out_shape, points) -> None:
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups.")
    for name, shape, last in (
        ("offset", offset_shape, groups * points * 2),
        ("mask", mask_shape, groups * points),
    ):
        if tuple(shape) != (*out_shape, last):
            raise ValueError(f"{name} has shape {tuple(shape)}, but {(*out_shape, last)} is needed.")


def _pair(x: int | tuple[int, int]) -> tuple[int, int]:
    return (x, x) if isinstance(x, int) else tuple(x)
