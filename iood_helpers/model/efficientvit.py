"""EfficientViT for segmentation, registered in mmseg: a small network that its authors trained on Cityscapes.

Source: Cai et al., *EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction*, ICCV 2023
(arXiv:2205.14756); parameter names are those of the authors' checkpoints (mit-han-lab/efficientvit, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

HEAD_DIM = 16
EXPANSION = 4
DIVISOR = 32


class ConvLayer(nn.Module):
    """Convolution that keeps the size over its stride, then batch norm (or a bias instead), then Hardswish if asked."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride=1, groups=1, bias=False, norm=True, act=True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(outputs) if norm else None
        self.act = nn.Hardswish() if act else None

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
        batch, _, height, width = x.shape
        qkv = self.qkv(x)
        stacked = torch.cat([qkv, self.aggreg[0](qkv)], 1).float()
        q, k, v = stacked.reshape(batch, -1, 3 * HEAD_DIM, height * width).split(HEAD_DIM, 2)
        q, k, v = F.relu(q), F.relu(k), F.pad(v, (0, 0, 0, 1), value=1.0)  # the row of ones sums the weights
        out = v @ k.transpose(2, 3) @ q
        out = out[:, :, :-1] / (out[:, :, -1:] + 1e-15)
        return self.proj(out.reshape(batch, -1, height, width).to(x.dtype))


class Residual(nn.Module):
    """``x + main(x)``."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class Plain(nn.Module):
    """``main(x)``, named as in the checkpoints."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class AttentionBlock(nn.Module):
    """Residual attention for the context, then a residual MBConv for the neighbourhood."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.context_module = Residual(LiteMLA(width))
        self.local_module = Residual(MBConv(width, width, normed=False))

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

    An image whose sides are no multiples of 32 is resized to the nearest ones (bilinear): then every map covers the
    whole image, and relations between places hold as they are.

    Parameters
    ----------
    widths, depths
        Of the stem and the four stages.
    """

    def __init__(self, widths: Sequence[int] = (8, 16, 32, 64, 128), depths: Sequence[int] = (1, 2, 2, 2, 2)) -> None:
        super().__init__()
        stem = [ConvLayer(3, widths[0], 3, stride=2)]
        self.input_stem = OpSequential(stem + [Residual(DSConv(widths[0])) for _ in range(depths[0])])
        stages = []
        for number, (before, width, depth) in enumerate(zip(widths, widths[1:], depths[1:], strict=False)):
            attention = number >= 2
            layers: list[nn.Module] = [Plain(MBConv(before, width, stride=2, normed=not attention))]
            rest = depth if attention else depth - 1
            layers += [AttentionBlock(width) if attention else Residual(MBConv(width, width)) for _ in range(rest)]
            stages.append(OpSequential(layers))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) normalised RGB to four maps (N, C, h, w)."""
        size = [max(DIVISOR, round(side / DIVISOR) * DIVISOR) for side in x.shape[2:]]
        if size != list(x.shape[2:]):
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        x, maps = self.input_stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


@MODELS.register_module()
class EfficientViTHead(BaseDecodeHead):
    """Sum of the three last stages at stride 8, MBConvs, a 1x1 layer, and the classifier ``conv_seg``.

    Parameters
    ----------
    width, depth
        Channels of the sum, and number of MBConvs.
    **kwargs
        Of mmseg's ``BaseDecodeHead``; ``in_index`` from the finest to the coarsest map, ``channels`` what the
        classifier sees.
    """

    def __init__(self, width: int, depth: int, **kwargs) -> None:
        super().__init__(input_transform="multiple_select", **kwargs)
        # from the coarsest to the finest, as in the checkpoints; only enlarged ones are wrapped there
        ops = [OpSequential([ConvLayer(c, width, 1, act=False)]) for c in self.in_channels[:0:-1]]
        self.input_ops = nn.ModuleList([*ops, ConvLayer(self.in_channels[0], width, 1, act=False)])
        self.middle = OpSequential([Residual(MBConv(width, width)) for _ in range(depth)])
        self.output_ops = nn.ModuleList([OpSequential([ConvLayer(width, self.channels, 1)])])

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """What the classifier sees: (N, channels, h, w)."""
        maps = self._transform_inputs(inputs)
        size = maps[0].shape[2:]
        total = 0
        for op, x in zip(self.input_ops, maps[::-1], strict=True):
            x = op(x)
            total = total + (x if x.shape[2:] == size else F.interpolate(x, size, mode="bicubic", align_corners=False))
        return self.output_ops[0](self.middle(total))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps of the backbone to logits (N, num_classes, h, w) at the stride of the finest map used."""
        return self.cls_seg(self._forward_feature(inputs))


def mmseg_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under the names that they have in an mmseg ``EncoderDecoder``, from the authors' names."""
    classifier = "head.output_ops.0.op_list.1.conv."
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(classifier):
            name = "decode_head.conv_seg." + name.removeprefix(classifier)
        elif name.startswith("head."):
            name = "decode_" + name
        renamed[name] = tensor
    return renamed
