"""DCNv3, the deformable convolution of InternImage.

Every group of channels looks at ``kernel_h * kernel_w`` points around each output pixel. The points are moved by
learned offsets, read by bilinear interpolation (zero outside the map), and averaged with learned, soft-maxed weights.

Two ways to compute it, one entry point, the same numbers: plain PyTorch here, which runs everywhere and is
differentiable, and the compiled loop of ``dcnv3_numba.py`` on the CPU.

Source: Wang et al., *InternImage*, arXiv:2211.05778, section 3.1; arithmetic as in the CUDA operator of the official
repository (positions in pixels, no normalisation round trip).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .fast import dcnv3_numba

Pair = tuple[int, int]


def dcnv3(
    value: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    groups: int,
    offset_scale: float = 1.0,
    kernel_size: int | Pair = 3,
    stride: int | Pair = 1,
    padding: int | Pair = 1,
    dilation: int | Pair = 1,
    softmax: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Sample ``value`` at deformed points and average the samples with ``mask``.

    Parameters
    ----------
    value : Tensor
        Feature map, shape (N, H, W, C), C divisible by ``groups``.
    offset : Tensor
        Displacement of each point, shape (N, H_out, W_out, groups * K * 2) with K points per group, ordered
        (group, point, (x, y)); in units of ``offset_scale`` pixels; x is the width direction.
    mask : Tensor
        Weight of each point, shape (N, H_out, W_out, groups * K), ordered (group, point).
    groups : int
        Number of channel groups; channel ``group * (C // groups) + i`` belongs to ``group``.
    offset_scale : float
        Factor on the fixed grid *and* on the learned offsets.
    kernel_size, stride, padding, dilation : int or (int, int)
        Fixed grid as in a convolution; one number or (height, width). Points are ordered with x slowest.
    softmax : bool
        Whether ``mask`` holds logits that still need the soft-max over the points of each group.
    backend : {"auto", "numba", "torch"}
        ``"torch"``; ``"numba"``, which needs float32 on the CPU and gives no gradients; or ``"auto"``: numba where it
        can, PyTorch elsewhere, and where a graph is recorded (``torch.compile``, ``torch.export``).

    Returns
    -------
    Tensor
        Shape (N, H_out, W_out, C), same type and device as ``value``. Inputs of 16 bits are computed in float32.

    Raises
    ------
    ValueError
        If shapes do not fit together, or ``backend`` is unknown or cannot compute this.
    """
    kind = value.dtype
    if kind in (torch.bfloat16, torch.float16):  # positions in pixels need more digits
        value, offset, mask = value.float(), offset.float(), mask.float()
    kernel, stride, padding, dilation = (_pair(x) for x in (kernel_size, stride, padding, dilation))
    batch, height, width, channels = value.shape
    points = kernel[0] * kernel[1]
    out_h, out_w = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip((height, width), padding, dilation, kernel, stride, strict=True)
    )
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups.")
    for name, tensor, numbers in (("offset", offset, groups * points * 2), ("mask", mask, groups * points)):
        if tensor.shape != (batch, out_h, out_w, numbers):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, but {(batch, out_h, out_w, numbers)} is needed.")

    center = dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2
    grid = _grid(kernel, dilation, center) * offset_scale
    start = center[0] - padding[0], center[1] - padding[1]
    if _chosen(backend, value, offset, mask) == "numba":
        out = torch.empty((batch, out_h, out_w, channels))
        dcnv3_numba.sample(
            *(tensor.detach().contiguous().numpy() for tensor in (value, offset, mask)),
            out=out.numpy(),
            groups=groups,
            grid=grid.numpy(),
            offset_scale=offset_scale,
            stride=stride,
            start=start,
            softmax=softmax,
            threads=torch.get_num_threads(),
        )
        return out.to(kind)

    mask = mask.reshape(batch, out_h * out_w, groups, points)
    if softmax:
        mask = mask.softmax(-1)
    positions = _positions(offset, grid.to(offset), groups, (out_h, out_w), stride, start, offset_scale)
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
    return out.view(batch, channels, out_h * out_w).transpose(1, 2).reshape(batch, out_h, out_w, channels).to(kind)


def _grid(kernel: Pair, dilation: Pair, center: Pair) -> Tensor:
    """Fixed displacement (x, y) of each point from the centre, shape (K, 2); x is slowest."""
    y, x = (torch.arange(kernel[i]) * dilation[i] - center[i] for i in (0, 1))
    return torch.stack(torch.meshgrid(x, y, indexing="ij"), -1).view(-1, 2)


def _positions(
    offset: Tensor,
    grid: Tensor,
    groups: int,
    out_size: Pair,
    stride: Pair,
    start: Pair,
    offset_scale: float,
) -> Tensor:
    """Sampling positions (x, y) in pixels of the unpadded map, shape (N, H_out * W_out, groups, K, 2)."""
    row, column = (torch.arange(out_size[i]).to(offset) * stride[i] + start[i] for i in (0, 1))
    row, column = torch.meshgrid(row, column, indexing="ij")
    base = torch.stack((column, row), -1).view(-1, 1, 1, 2) + grid
    return base + offset.reshape(len(offset), len(base), groups, -1, 2) * offset_scale


def _chosen(backend: str, *tensors: Tensor) -> str:
    """Backend for these tensors."""
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f"Unknown DCNv3 backend {backend!r}; use 'auto', 'numba' or 'torch'.")
    if backend == "torch":
        return backend
    gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if torch.compiler.is_compiling():  # there are no numbers yet, only shapes
        return "torch"
    plain = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    if plain and not gradients:
        return "numba"
    if backend == "numba":
        raise ValueError(
            "The DCNv3 backend 'numba' needs float32 tensors on the CPU and no gradients; use 'auto' or 'torch'."
        )
    return "torch"


def _pair(x: int | Pair) -> Pair:
    return (x, x) if isinstance(x, int) else (x[0], x[1])
