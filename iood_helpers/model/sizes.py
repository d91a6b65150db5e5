"""mmseg configs of the InternImage + UPerNet segmenters: the official sizes and the project's own nano.

Source: ``configs/cityscapes/upernet_internimage_*_512x1024_160k_cityscapes.py`` of OpenGVLab/InternImage.
"""

from __future__ import annotations

from typing import Any

from ..errors import ParameterError

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

_COLUMNS = ("channels", "depths", "post_norm", "offset_scale", "drop_path_rate", "head_channels", "aux_channels")
_ROWS = {
    "nano": (24, (1, 1, 3, 1), False, 1.0, 0.05, 48, 32),
    "t": (64, (4, 4, 18, 4), False, 1.0, 0.2, 512, 256),
    "s": (80, (4, 4, 21, 4), True, 1.0, 0.3, 512, 256),
    "b": (112, (4, 4, 21, 4), True, 1.0, 0.4, 512, 256),
    "l": (160, (5, 5, 22, 5), True, 2.0, 0.4, 512, 256),
    "xl": (192, (5, 5, 24, 5), True, 2.0, 0.4, 512, 256),
}
GROUP_CHANNELS = {"nano": 8}
"""Channels that share offsets, where they are not the official 16."""

SIZES: dict[str, dict[str, Any]] = {
    size: {
        **dict(zip(_COLUMNS, row, strict=True)),
        "groups": tuple(row[0] // GROUP_CHANNELS.get(size, 16) * 2**level for level in range(4)),
        "layer_scale": 1.0,
    }
    for size, row in _ROWS.items()
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
    size : {"nano", "t", "s", "b", "l", "xl"}
    num_classes : int
        Rows of both classifiers; official Cityscapes configs say 150 (a left-over of ADE20K).
    head_channels, aux_channels : int, optional
        Widths of UPerHead and FCNHead; as in ``SIZES`` if not given.

    Returns
    -------
    dict
        Argument of ``mmseg.registry.MODELS.build``.

    Raises
    ------
    ParameterError
        If the size is unknown.
    """
    if size not in SIZES:
        raise ParameterError(f"Unknown InternImage size {size!r}; known sizes are {', '.join(SIZES)}.")
    backbone = dict(SIZES[size])
    head_width, aux_width = backbone.pop("head_channels"), backbone.pop("aux_channels")
    widths = [backbone["channels"] * 2**level for level in range(4)]
    norm = {"type": "BN", "requires_grad": True}
    common = {"dropout_ratio": 0.1, "num_classes": num_classes, "norm_cfg": norm, "align_corners": False}
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
