"""EfficientViT for segmentation, registered with mmseg: a small network that its authors trained on Cityscapes.

Source: Cai et al., *EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction*, ICCV 2023
(arXiv:2205.14756). Parameters are named as in the authors' checkpoints (mit-han-lab/efficientvit, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

HEAD_DIM = 16
EXPANSION = 4
DIVISOR = 32
ATTENTION_STAGE = 2
"""First stage with attention; those before have convolutions only."""


class ConvLayer(nn.Module):
    """Convolution that only its stride makes smaller, then batch norm (or a bias instead), then Hardswish if asked."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm: bool = True,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(outputs) if norm else None
        self.act = nn.Hardswish(inplace=True) if act else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x)
        return x if self.act is None else self.act(x)


class DSConv(nn.Module):
    """Depthwise 3x3 with activation, then 1x1 without."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth_conv = ConvLayer(width, width, 3, groups=width)
        self.point_conv = ConvLayer(width, width, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(x))


class MBConv(nn.Module):
    """1x1 to four times the width, depthwise 3x3, 1x1 back; ``normed=False`` has biases in place of the first norms."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, normed: bool = True) -> None:
        super().__init__()
        inner, kind = EXPANSION * inputs, {"bias": not normed, "norm": normed}
        self.inverted_conv = ConvLayer(inputs, inner, 1, **kind)
        self.depth_conv = ConvLayer(inner, inner, 3, stride=stride, groups=inner, **kind)
        self.point_conv = ConvLayer(inner, outputs, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


class LiteMLA(nn.Module):
    """Multi-scale attention without a soft-max, linear in the number of cells: ``q (k^T v)`` with ReLU on q and k."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels, groups = 3 * width, 3 * (width // HEAD_DIM)
        self.qkv = ConvLayer(width, channels, 1, norm=False, act=False)
        self.aggreg = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
                    nn.Conv2d(channels, channels, 1, groups=groups, bias=False),
                )
            ]
        )
        self.proj = ConvLayer(2 * width, width, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        return self.proj(self._attend(torch.cat([qkv, self.aggreg[0](qkv)], 1)).to(x.dtype))

    @staticmethod
    def _attend(qkv: Tensor) -> Tensor:
        """(N, heads * 48, h, w) to (N, heads * 16, h, w), in float32 also under autocast: sums over all cells."""
        batch, _, height, width = qkv.shape
        with torch.autocast(qkv.device.type, enabled=False):
            q, k, v = qkv.float().reshape(batch, -1, 3 * HEAD_DIM, height * width).split(HEAD_DIM, 2)
            q, k, v = F.relu(q), F.relu(k), F.pad(v, (0, 0, 0, 1), value=1.0)  # the row of ones sums the weights
            out = v @ k.transpose(2, 3) @ q
            out = out[:, :, :-1] / (out[:, :, -1:] + 1e-15)
        return out.reshape(batch, -1, height, width)


class ResidualBlock(nn.Module):
    """``x + main(x)``, or ``main(x)`` where width or stride change."""

    def __init__(self, main: nn.Module, *, adds: bool = True) -> None:
        super().__init__()
        self.main, self.adds = main, adds

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x) if self.adds else self.main(x)


class AttentionBlock(nn.Module):
    """Residual attention for the context, then a residual MBConv for the neighbourhood."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.context_module = ResidualBlock(LiteMLA(width))
        self.local_module = ResidualBlock(MBConv(width, width, normed=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.local_module(self.context_module(x))


class OpSequential(nn.Module):
    """Layers in a row, named as in the checkpoints."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op_list(x)


@MODELS.register_module()
class EfficientViT(nn.Module):
    """Backbone; maps at strides 4, 8, 16 and 32.

    An image whose sides are no multiples of 32 is enlarged to the next ones (bilinear), as the authors do: then every
    map covers the whole image, and none of its cells looks at padding.

    Parameters
    ----------
    widths, depths : sequence of int
        Channels and blocks of the stem and of the four stages.
    """

    def __init__(self, widths: Sequence[int] = (8, 16, 32, 64, 128), depths: Sequence[int] = (1, 2, 2, 2, 2)) -> None:
        super().__init__()
        stem = [ConvLayer(3, widths[0], 3, stride=2)]
        self.input_stem = OpSequential(stem + [ResidualBlock(DSConv(widths[0])) for _ in range(depths[0])])
        self.stages = nn.ModuleList()
        for number, (before, width, depth) in enumerate(zip(widths[:-1], widths[1:], depths[1:], strict=True)):
            attends = number >= ATTENTION_STAGE
            layers: list[nn.Module] = [ResidualBlock(MBConv(before, width, stride=2, normed=not attends), adds=False)]
            if attends:
                layers += [AttentionBlock(width) for _ in range(depth)]
            else:
                layers += [ResidualBlock(MBConv(width, width)) for _ in range(depth - 1)]
            self.stages.append(OpSequential(layers))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalized RGB (N, 3, H, W) to four maps (N, C, h, w)."""
        size = [-(-side // DIVISOR) * DIVISOR for side in x.shape[2:]]
        if size != list(x.shape[2:]):
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        # Convolutions keep the channels of a pixel side by side, and take a third less time so; attention parts them.
        x, maps = self.input_stem(x.contiguous(memory_format=torch.channels_last)), []
        for number, stage in enumerate(self.stages):
            x = stage(x if number < ATTENTION_STAGE else x.contiguous())
            maps.append(x)
        return tuple(maps)


@MODELS.register_module()
class EfficientViTHead(BaseDecodeHead):
    """Sum of the last three stages at stride 8, MBConvs, a 1x1 layer, and the classifier ``conv_seg``.

    Parameters
    ----------
    width, depth : int
        Channels of the sum, and number of MBConvs.
    **kwargs
        Those of mmseg's ``BaseDecodeHead``; ``in_index`` from the finest to the coarsest map, ``channels`` what the
        classifier sees.
    """

    def __init__(self, width: int, depth: int, **kwargs: Any) -> None:
        super().__init__(input_transform="multiple_select", **kwargs)
        # from the coarsest to the finest, as in the checkpoints; only enlarged ones are wrapped there
        ops = [OpSequential([ConvLayer(channels, width, 1, act=False)]) for channels in self.in_channels[:0:-1]]
        self.input_ops = nn.ModuleList([*ops, ConvLayer(self.in_channels[0], width, 1, act=False)])
        self.middle = OpSequential([ResidualBlock(MBConv(width, width)) for _ in range(depth)])
        self.output_ops = nn.ModuleList([OpSequential([ConvLayer(width, self.channels, 1)])])

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """What the classifier sees: (N, channels, h, w)."""
        maps = self._transform_inputs(inputs)
        size = maps[0].shape[2:]
        parts = [op(x) for op, x in zip(self.input_ops, maps[::-1], strict=True)]
        parts[:-1] = [F.interpolate(part, size, mode="bicubic", align_corners=False) for part in parts[:-1]]
        return self.output_ops[0](self.middle(sum(parts)))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps of the backbone to logits (N, num_classes, h, w) at the stride of the finest map used."""
        return self.cls_seg(self._forward_feature(inputs))
