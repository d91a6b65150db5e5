"""EfficientViT checkpoints that their authors published: where they are, and the mmseg configs that they belong to.

Sources: the model zoo of mit-han-lab/efficientvit, and its files in ``han-cai/efficientvit-seg`` on Hugging Face. Code
and weights are Apache-2.0; the weights were trained on Cityscapes, whose terms allow non-commercial use only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from .sizes import MEAN, STD

_STEM = "backbone.input_stem.op_list.0.conv.weight"
_COLUMNS = ("widths", "depths", "head_width", "head_depth")
_ROWS = {
    "b0": ((8, 16, 32, 64, 128), (1, 2, 2, 2, 2), 32, 1),
    "b1": ((16, 32, 64, 128, 256), (1, 2, 3, 3, 4), 64, 3),
}
SIZES: dict[str, dict[str, Any]] = {
    f"efficientvit-{size}": dict(zip(_COLUMNS, row, strict=True)) for size, row in _ROWS.items()
}
"""Channels and blocks of the stem and the four stages, channels and blocks of the head."""

_FILE = "efficientvit_seg_{}_cityscapes.pt"
URLS = {f"efficientvit-{size}-cityscapes": "hf://han-cai/efficientvit-seg/" + _FILE.format(size) for size in _ROWS}
SHA256 = {"efficientvit-b0-cityscapes": "923d6fdd5e93640cc0c2f3f213764f34e80b477cd98a6b294d870ea6df5acc50"}
"""Checksums of the authors' files; that of b1 (19 391 716 bytes) was out of reach."""


def below_data_root(name: str) -> Path | None:
    """File of a checkpoint below the folder that ``IOOD_DATA`` names, or None if there is none."""
    root = os.environ.get("IOOD_DATA")
    if not root or name not in URLS:
        return None
    size = name.split("-")[1]
    path = Path(root).expanduser() / f"efficientvit_{size}" / _FILE.format(size)
    return path if path.is_file() else None


def mmseg_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under the names that they have in an mmseg ``EncoderDecoder``, from the authors' names.

    Those of other networks, and names that are mmseg's already, stay as they are.
    """
    if _STEM not in state or any(name.startswith("decode_head.") for name in state):
        return state
    classifier, ours = "head.output_ops.0.op_list.1.conv.", "decode_head.conv_seg."
    names = {name: f"decode_{name}" if name.startswith("head.") else name for name in state}
    names |= {name: name.replace(classifier, ours) for name in state if name.startswith(classifier)}
    return {names[name]: tensor for name, tensor in state.items()}


def guess_size(state: dict[str, Tensor]) -> str | None:
    """Name of the EfficientViT size whose stem the weights have, or None."""
    stem = state.get(_STEM)
    channels = None if stem is None or stem.ndim != 4 else stem.shape[0]
    return next((size for size, config in SIZES.items() if config["widths"][0] == channels), None)


def model_config(size: str, *, num_classes: int = 19) -> dict[str, Any]:
    """``model`` dictionary of an mmseg config.

    Parameters
    ----------
    size : {"efficientvit-b0", "efficientvit-b1"}
        See ``SIZES``.
    num_classes : int, default=19
        Rows of the classifier.

    Returns
    -------
    dict
        For ``mmseg.registry.MODELS.build``.
    """
    config = SIZES[size]
    widths, head_width = config["widths"], config["head_width"]
    return {
        "type": "EncoderDecoder",
        "_scope_": "mmseg",
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            "mean": list(MEAN),
            "std": list(STD),
            "bgr_to_rgb": True,
            "pad_val": 0,
            "seg_pad_val": 255,
        },
        "backbone": {"type": "EfficientViT", "widths": widths, "depths": config["depths"]},
        "decode_head": {
            "type": "EfficientViTHead",
            "width": head_width,
            "depth": config["head_depth"],
            "in_channels": list(widths[2:]),
            "in_index": [1, 2, 3],
            "channels": 4 * head_width,
            "num_classes": num_classes,
            "dropout_ratio": 0.0,
            "align_corners": False,
            "loss_decode": {"type": "CrossEntropyLoss", "avg_non_ignore": True, "loss_weight": 1.0},
        },
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
