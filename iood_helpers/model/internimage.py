"""InternImage, the backbone, with the parameter names of the official checkpoints.

Registered in mmseg's ``MODELS``, so that any mmseg config can say ``backbone=dict(type="InternImage", ...)``.

Source: Wang et al., *InternImage*, arXiv:2211.05778; names, flags and forward arithmetic as in the segmentation folder
of the official repository (OpenGVLab/InternImage).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .blocks import ACTIVATIONS, MLP, DownsampleLayer, StemLayer, build_norm
from .dcnv3 import dcnv3

KERNEL_POINTS = 9


@dataclass(frozen=True)
class BlockConfig:
    """What all blocks of a backbone have in common; names and meaning as the keywords of :class:`InternImage`."""

    mlp_ratio: float
    drop_rate: float
    act_layer: str
    norm_layer: str
    layer_scale: float | None
    offset_scale: float
    post_norm: bool
    with_cp: bool
    dw_kernel_size: int | None
    res_post_norm: bool
    center_feature_scale: bool


class DCNv3(nn.Module):
    """The operator with its projections; offsets and weights of the points come from a depthwise branch."""

    def __init__(self, channels: int, groups: int, config: BlockConfig) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be divided into {groups} groups.")
        self.groups, self.config = groups, config
        kernel = config.dw_kernel_size or 3
        if config.center_feature_scale:
            self.center_feature_scale_proj_weight = nn.Parameter(torch.zeros(groups, channels))
            self.center_feature_scale_proj_bias = nn.Parameter(torch.zeros(groups))
        self.dw_conv = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=(kernel - 1) // 2, groups=channels),
            build_norm(channels, config.norm_layer, first=True),
            ACTIVATIONS[config.act_layer](),
        )
        self.offset = nn.Linear(channels, groups * KERNEL_POINTS * 2)
        self.mask = nn.Linear(channels, groups * KERNEL_POINTS)
        self.input_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as an even average of each 3x3 neighbourhood."""
        for layer in (self.offset, self.mask):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        value = self.input_proj(x)
        query = self.dw_conv(x.permute(0, 3, 1, 2))
        offset, mask, scale = self.offset(query), self.mask(query), self.config.offset_scale
        out = dcnv3(value, offset, mask, groups=self.groups, offset_scale=scale, softmax=True)
        if self.config.center_feature_scale:
            weight, bias = self.center_feature_scale_proj_weight, self.center_feature_scale_proj_bias
            gate = F.linear(query, weight, bias).sigmoid().repeat_interleave(x.shape[-1] // self.groups, dim=-1)
            out = torch.lerp(out, value, gate)
        return self.output_proj(out)


class InternImageLayer(nn.Module):
    """One block: DCNv3 and MLP, each residual. The config decides where the norms stand."""

    def __init__(self, channels: int, groups: int, config: BlockConfig, drop_path: float) -> None:
        super().__init__()
        self.config = config
        self.norm1 = build_norm(channels)
        self.dcn = DCNv3(channels, groups, config)
        self.drop_path = DropPath(drop_path)
        self.norm2 = build_norm(channels)
        self.mlp = MLP(channels, int(channels * config.mlp_ratio), config.act_layer, config.drop_rate)
        if config.layer_scale is not None:
            self.gamma1 = nn.Parameter(config.layer_scale * torch.ones(channels))
            self.gamma2 = nn.Parameter(config.layer_scale * torch.ones(channels))
        if config.res_post_norm:
            self.res_post_norm1 = build_norm(channels)
            self.res_post_norm2 = build_norm(channels)

    def _halves(self, x: Tensor) -> Tensor:
        scaled = self.config.layer_scale is not None
        gamma1, gamma2 = (self.gamma1, self.gamma2) if scaled else (1.0, 1.0)
        if self.config.post_norm:
            x = x + self.drop_path(gamma1 * self.norm1(self.dcn(x)))
            return x + self.drop_path(gamma2 * self.norm2(self.mlp(x)))
        if self.config.res_post_norm and not scaled:  # with layer scale these norms exist but stay unused
            x = x + self.drop_path(self.res_post_norm1(self.dcn(self.norm1(x))))
            return x + self.drop_path(self.res_post_norm2(self.mlp(self.norm2(x))))
        x = x + self.drop_path(gamma1 * self.dcn(self.norm1(x)))
        return x + self.drop_path(gamma2 * self.mlp(self.norm2(x)))

    def forward(self, x: Tensor) -> Tensor:
        if self.config.with_cp and x.requires_grad:
            return checkpoint(self._halves, x, use_reentrant=False)
        return self._halves(x)


class InternImageBlock(nn.Module):
    """One level of the pyramid: a block for each rate of ``drop_path``, an optional norm, and the next level's input.

    Where ``post_norm_blocks`` names a block, a further norm follows it.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        config: BlockConfig,
        drop_path: Sequence[float],
        *,
        downsample: bool,
        post_norm_blocks: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.post_norm_blocks = tuple(post_norm_blocks)
        self.blocks = nn.ModuleList(InternImageLayer(channels, groups, config, rate) for rate in drop_path)
        self.norm = build_norm(channels) if not config.post_norm or config.center_feature_scale else None
        if post_norm_blocks:
            self.post_norms = nn.ModuleList(build_norm(channels) for _ in post_norm_blocks)
        self.downsample = DownsampleLayer(channels, config.norm_layer) if downsample else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, C) to (this level's output, the next level's input)."""
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.post_norm_blocks:
                x = self.post_norms[self.post_norm_blocks.index(index)](x)
        if self.norm is not None:
            x = self.norm(x)
        return x, x if self.downsample is None else self.downsample(x).to(x)


@MODELS.register_module()
class InternImage(nn.Module):
    """Backbone: image (N, 3, H, W) to feature maps (N, C * 2**i, H / 2**(i+2), W / 2**(i+2)), sizes rounded up.

    Parameters
    ----------
    channels : int
        Channels C of the first level; each further level has twice as many.
    depths, groups : sequence of int
        Blocks and channel groups of each level.
    mlp_ratio : float
        Hidden channels of the MLP per channel.
    drop_rate, drop_path_rate : float
        Rates of dropout and of stochastic depth, 0..1.
    drop_path_type : {"linear", "uniform"}
        Whether the rate of stochastic depth rises from 0 over the blocks, or is the same in all of them.
    act_layer : {"GELU", "ReLU", "SiLU"}
    norm_layer : {"LN", "BN"}
        Norm of the stem, the downsampling and the depthwise branch; all others are layer norms.
    layer_scale : float, optional
        Initial value of the learned scale of each residual branch; None for no scale.
    offset_scale : float
        Factor on the sampling grid and offsets of DCNv3.
    post_norm, res_post_norm, center_feature_scale, level2_post_norm, level2_post_norm_block_ids, dw_kernel_size
        Variants of the block, as in the official class (the H and G models use the last five).
    with_cp : bool
        Recompute activations in the backward pass to save memory.
    out_indices : sequence of int
        Levels to return.
    frozen_stages : int
        ``k >= 0`` freezes levels 0 .. k-1 (never the stem, as the official class).
    core_op, init_cfg, **kwargs
        Accepted for the sake of official configs, and ignored.

    Raises
    ------
    ValueError
        If the numbers of ``depths`` and ``groups`` differ, or a width is not divisible by its groups.
    """

    def __init__(
        self,
        core_op: str = "DCNv3",
        channels: int = 64,
        depths: Sequence[int] = (3, 4, 18, 5),
        groups: Sequence[int] = (3, 6, 12, 24),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        drop_path_type: str = "linear",
        act_layer: str = "GELU",
        norm_layer: str = "LN",
        layer_scale: float | None = None,
        offset_scale: float = 1.0,
        post_norm: bool = False,
        with_cp: bool = False,
        dw_kernel_size: int | None = None,
        level2_post_norm: bool = False,
        level2_post_norm_block_ids: Sequence[int] | None = None,
        res_post_norm: bool = False,
        center_feature_scale: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | None = None,
        frozen_stages: int = -1,
        **kwargs: object,
    ) -> None:
        super().__init__()
        if len(depths) != len(groups):
            raise ValueError(f"{len(depths)} depths but {len(groups)} groups were given.")
        if drop_path_type not in ("linear", "uniform"):
            raise ValueError(f"Unknown drop_path_type {drop_path_type!r}; use 'linear' or 'uniform'.")
        self.channels, self.depths, self.groups = channels, tuple(depths), tuple(groups)
        self.num_levels = len(depths)
        self.num_features = channels * 2 ** (self.num_levels - 1)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        start = 0.0 if drop_path_type == "linear" else drop_path_rate
        rates = np.linspace(start, drop_path_rate, sum(depths)).tolist()

        config = BlockConfig(
            mlp_ratio=mlp_ratio,
            drop_rate=drop_rate,
            act_layer=act_layer,
            norm_layer=norm_layer,
            layer_scale=layer_scale,
            offset_scale=offset_scale,
            post_norm=post_norm,
            with_cp=with_cp,
            dw_kernel_size=dw_kernel_size,
            res_post_norm=res_post_norm,
            center_feature_scale=center_feature_scale,
        )
        self.patch_embed = StemLayer(3, channels, act_layer, norm_layer)
        self.pos_drop = nn.Dropout(drop_rate)
        self.levels = nn.ModuleList()
        for level, depth in enumerate(depths):
            before = sum(depths[:level])
            self.levels.append(
                InternImageBlock(
                    channels * 2**level,
                    groups[level],
                    config,
                    rates[before : before + depth],
                    downsample=level < self.num_levels - 1,
                    post_norm_blocks=(level2_post_norm_block_ids or ()) if level2_post_norm and level == 2 else (),
                )
            )
        self.apply(_init_linear)
        for module in self.modules():
            if isinstance(module, DCNv3):
                module.reset_parameters()
        self._freeze_stages()

    def _freeze_stages(self) -> None:
        for level in self.levels[: max(self.frozen_stages, 0)]:
            level.eval()
            level.requires_grad_(False)

    def train(self, mode: bool = True) -> InternImage:
        """Switch training on or off; frozen levels stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps of the levels in ``out_indices``, each (N, C_i, H_i, W_i) and contiguous."""
        x = self.pos_drop(self.patch_embed(x)).to(x)  # under autocast, too, the residual sums keep all digits
        outputs = []
        for index, level in enumerate(self.levels):
            out, x = level(x)
            if index in self.out_indices:
                outputs.append(out.permute(0, 3, 1, 2).contiguous())
        return outputs


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
