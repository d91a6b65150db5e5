"""From weights, or from an mmseg config and weights, to a model that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS

from ..errors import CheckpointError
from . import (
    efficientvit,  # noqa: F401  (registers backbone and head)
    efficientvit_zoo,
    internimage,  # noqa: F401  (registers the backbone)
)
from .checkpoints import Checkpoint, load_strictly
from .sizes import MEAN, STD, model_config


def from_weights(loaded: Checkpoint) -> EncoderDecoder:
    """InternImage + UPerNet, or EfficientViT, of the size that the weights have.

    Raises
    ------
    CheckpointError
        If the weights are those of another network.
    """
    config = _own_config(loaded)
    config["data_preprocessor"] = MODELS.build(config["data_preprocessor"])  # its statistics are in no checkpoint
    try:
        with torch.device("meta"):  # neither memory nor time for random weights
            model = MODELS.build(ConfigDict(config))
    except Exception as error:  # weights of shapes that no network has
        raise CheckpointError(f"The checkpoint {loaded.path} fits no network ({error}); download it again.") from error
    load_strictly(model, loaded)
    return model


def from_config(source: str | Path | dict[str, Any], loaded: Checkpoint) -> EncoderDecoder:
    """Model of an mmseg config (path or dictionary) with weights.

    Raises
    ------
    CheckpointError
        If the config cannot be read or built, or the weights do not fit it.
    """
    config = _plain_model(_read_config(source), source)
    for part in ("decode_head", "auxiliary_head"):
        several = isinstance(config.get(part), list)
        for number, head in enumerate(_heads(config, part)):
            rows = loaded.state_dict.get(f"{part}.{number}.conv_seg.weight" if several else f"{part}.conv_seg.weight")
            if rows is not None and rows.ndim == 4:
                head["num_classes"] = rows.shape[0]
                head.pop("out_channels", None)
    try:
        model = MODELS.build(ConfigDict(config))
    except Exception as error:  # as many kinds as there are models
        raise CheckpointError(
            f"The model of the mmseg config {_name(source)} cannot be built ({type(error).__name__}: {error}); "
            "use an EncoderDecoder whose parts this mmseg has."
        ) from error
    if not hasattr(model, "decode_head") or not hasattr(model, "extract_feat"):
        raise CheckpointError(
            f"The mmseg config {_name(source)} describes no EncoderDecoder with a decode_head; use one that does."
        )
    _check_windows(model.test_cfg or {}, source)
    load_strictly(model, loaded)
    return model


def _check_windows(test_cfg: dict[str, Any], source: Any) -> None:
    """What mmseg would notice only when it predicts."""
    mode, crop, stride = (test_cfg.get(key) for key in ("mode", "crop_size", "stride"))
    if mode in (None, "whole"):
        return
    pairs = [tuple(pair) if isinstance(pair, list | tuple) else () for pair in (crop, stride)]
    fine = all(len(pair) == 2 and all(isinstance(n, int) and n > 0 for n in pair) for pair in pairs)
    if mode != "slide" or not fine or any(step > side for side, step in zip(*pairs, strict=True)):
        raise CheckpointError(
            f"The mmseg config {_name(source)} tests in mode {mode!r} with crop_size {crop} and stride {stride}; use "
            "'whole', or 'slide' with (height, width) of windows and of smaller steps."
        )


def _name(source: Any) -> str:
    return "dictionary" if isinstance(source, dict) else str(source)


def _read_config(source: Any) -> dict[str, Any]:
    try:
        return source if isinstance(source, dict) else Config.fromfile(str(source)).to_dict()
    except (Exception, SystemExit) as error:  # a config is a program and can fail as one
        raise CheckpointError(
            f"The mmseg config {_name(source)} could not be read ({error}); check the file."
        ) from error


def _plain_model(whole: dict[str, Any], source: Any) -> dict[str, Any]:
    config = whole.get("model", whole)
    if not isinstance(config, dict) or "type" not in config or not isinstance(config.get("backbone"), dict):
        raise CheckpointError(f"The mmseg config {_name(source)} describes no model with a backbone; check the file.")
    plain = _plain(config)
    return {"_scope_": "mmseg", **plain, "data_preprocessor": plain.get("data_preprocessor") or _preprocessor(whole)}


def _preprocessor(whole: dict[str, Any]) -> dict[str, Any]:
    """What a config says of normalisation outside of its model: as mmseg 1.x or 0.x writes it; else the usual."""
    if isinstance(whole.get("data_preprocessor"), dict):
        return _plain(whole["data_preprocessor"])
    old = whole.get("img_norm_cfg")
    old = old if isinstance(old, dict) else {"mean": MEAN, "std": STD}
    return {
        **{"type": "SegDataPreProcessor", "mean": old.get("mean"), "std": old.get("std")},
        "bgr_to_rgb": bool(old.get("to_rgb", True)),
    }


def _plain(part: Any) -> Any:
    """The part of a config without what would fetch other weights, and with norms for one process."""
    if isinstance(part, list | tuple):
        return [_plain(item) for item in part] if isinstance(part, list) else tuple(map(_plain, part))
    if not isinstance(part, dict):
        return part
    plain = {key: _plain(value) for key, value in part.items() if key not in ("init_cfg", "pretrained")}
    if plain.get("type") in ("SyncBN", "MMSyncBN"):
        plain["type"] = "BN"  # same state dict
    return plain


def _heads(config: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    heads = config.get(part) or []
    yield from (head for head in (heads if isinstance(heads, list) else [heads]) if isinstance(head, dict))


def _own_config(loaded: Checkpoint) -> dict[str, Any]:
    if loaded.size in efficientvit_zoo.SIZES and loaded.num_classes:
        return efficientvit_zoo.model_config(loaded.size, num_classes=loaded.num_classes)
    merge, auxiliary = (
        loaded.state_dict.get(f"{name}.conv.weight")
        for name in ("decode_head.fpn_bottleneck", "auxiliary_head.convs.0")
    )
    shapes = [weight.ndim for weight in (merge, auxiliary) if weight is not None]
    if loaded.size is None or not loaded.num_classes or merge is None or any(ndim != 4 for ndim in shapes):
        raise CheckpointError(
            f"The checkpoint {loaded.path} is not an InternImage + UPerNet or EfficientViT segmenter of a known size; "
            "give its mmseg config first: load_segmenter(config, checkpoint)."
        )
    config = model_config(loaded.size, num_classes=loaded.num_classes, head_channels=merge.shape[0])
    if auxiliary is None:
        del config["auxiliary_head"]
    else:
        config["auxiliary_head"]["channels"] = auxiliary.shape[0]
    return config
