"""mmseg configs of the InternImage + UPerNet segmenters: the official sizes and the project's own nano.

Source: ``configs/cityscapes/upernet_internimage_*_512x1024_160k_cityscapes.py`` of OpenGVLab/InternImage.
"""

from __future__ import annotations

from typing import Any

from ..errors import CheckpointError

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

_OFFICIAL_HEAD = {"head_channels": 512, "aux_channels": 256}
SIZES: dict[str, dict[str, Any]] = {
    "nano": {
        "channels": 24,
        "depths": (1, 1, 3, 1),
        "groups": (3, 6, 12, 24),
        "post_norm": False,
        "layer_scale": 1.0,
        "offset_scale": 1.0,
        "drop_path_rate": 0.05,
        "head_channels": 48,
        "aux_channels": 32,
    },
    "t": dict(
        channels=64,
        depths=(4, 4, 18, 4),
        groups=(4, 8, 16, 32),
        post_norm=False,
        layer_scale=1.0,
        offset_scale=1.0,
        drop_path_rate=0.2,
        **_OFFICIAL_HEAD,
    ),
    "s": dict(
        channels=80,
        depths=(4, 4, 21, 4),
        groups=(5, 10, 20, 40),
        post_norm=True,
        layer_scale=1.0,
        offset_scale=1.0,
        drop_path_rate=0.3,
        **_OFFICIAL_HEAD,
    ),
    "b": dict(
        channels=112,
        depths=(4, 4, 21, 4),
        groups=(7, 14, 28, 56),
        post_norm=True,
        layer_scale=1.0,
        offset_scale=1.0,
        drop_path_rate=0.4,
        **_OFFICIAL_HEAD,
    ),
    "l": dict(
        channels=160,
        depths=(5, 5, 22, 5),
        groups=(10, 20, 40, 80),
        post_norm=True,
        layer_scale=1.0,
        offset_scale=2.0,
        drop_path_rate=0.4,
        **_OFFICIAL_HEAD,
    ),
    "xl": dict(
        channels=192,
        depths=(5, 5, 24, 5),
        groups=(12, 24, 48, 96),
        post_norm=True,
        layer_scale=1.0,
        offset_scale=2.0,
        drop_path_rate=0.4,
        **_OFFICIAL_HEAD,
    ),
}
"""Backbone keywords and head widths of each size."""


def model_config(
    size: str,
    *,
    num_classes: int = 19,
    head_channels: int | None = None,
    aux_channels: int | None = None,
) -> dict[str, Any]:
    """``model`` dictionary of an mmseg config.

    Parameters
    ----------
    size
        One of ``SIZES``: "nano", "t", "s", "b", "l", "xl".
    num_classes
        Rows of both classifiers; official Cityscapes configs say 150 (a left-over of ADE20K).
    head_channels, aux_channels
        Widths of UPerHead and FCNHead; default as in ``SIZES``.

    Returns
    -------
    dict
        For ``mmseg.registry.MODELS.build``.

    Raises
    ------
    CheckpointError
        If the size is unknown.
    """
    if size not in SIZES:
        raise CheckpointError(f"Unknown InternImage size {size!r}; known sizes are {', '.join(SIZES)}.")
    backbone = dict(SIZES[size])
    head_width, aux_width = backbone.pop("head_channels"), backbone.pop("aux_channels")
    widths = [backbone["channels"] * 2**level for level in range(4)]
    norm = {"type": "BN", "requires_grad": True}
    common = {
        "dropout_ratio": 0.1,
        "num_classes": num_classes,
        "norm_cfg": norm,
        "align_corners": False,
    }
    return {
        "type": "EncoderDecoder",
        "_scope_": "mmseg",  # so that heads and preprocessor are found without setting a global default scope
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            "mean": list(MEAN),
            "std": list(STD),
            "bgr_to_rgb": True,  # mmseg loads BGR, the network was trained on RGB
            "pad_val": 0,
            "seg_pad_val": 255,
        },
        "backbone": dict(type="InternImage", out_indices=(0, 1, 2, 3), **backbone),
        "decode_head": dict(
            type="UPerHead",
            in_channels=widths,
            in_index=[0, 1, 2, 3],
            pool_scales=(1, 2, 3, 6),
            channels=head_channels or head_width,
            loss_decode={"type": "CrossEntropyLoss", "avg_non_ignore": True, "loss_weight": 1.0},
            **common,
        ),
        "auxiliary_head": dict(
            type="FCNHead",
            in_channels=widths[2],
            in_index=2,
            channels=aux_channels or aux_width,
            num_convs=1,
            concat_input=False,
            loss_decode={"type": "CrossEntropyLoss", "avg_non_ignore": True, "loss_weight": 0.4},
            **common,
        ),
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
