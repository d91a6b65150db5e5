"""From weights, or from an mmseg config and weights, to a model and the form of input that it wants."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mmseg.models  # noqa: F401  (registers heads and segmentors)
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from torch import Tensor

from ..errors import CheckpointError
from . import internimage  # noqa: F401  (registers the backbone)
from .checkpoints import Checkpoint, load_strictly
from .sizes import MEAN, STD, model_config


@dataclass(frozen=True)
class InputForm:
    """What a model wants its image to be.

    Attributes
    ----------
    mean, std
        Of the three channels, on 0..255.
    rgb
        Whether channels come as RGB; else as BGR, as mmseg loads them.
    divisor
        Sides are padded, at the right and at the bottom, to multiples of this.
    size
        Sides are padded to at least these (height, width).
    pad
        Value of padded pixels, after normalisation.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    rgb: bool = True
    divisor: int = 1
    size: tuple[int, int] = (0, 0)
    pad: float = 0.0

    def __call__(self, pixels: Tensor) -> Tensor:
        """(H, W, 3) RGB values 0..255 as (1, 3, H', W') float32."""
        pixels = pixels if self.rgb else pixels.flip(2)
        x = ((pixels - torch.tensor(self.mean)) / torch.tensor(self.std)).permute(2, 0, 1)[None]
        sides = [
            max(-(-n // self.divisor) * self.divisor, least) for n, least in zip(x.shape[2:], self.size, strict=True)
        ]
        (height, width), (rows, columns) = x.shape[2:], sides
        return F.pad(x, (0, columns - width, 0, rows - height), value=self.pad).contiguous()


def build_own(loaded: Checkpoint) -> torch.nn.Module:
    """InternImage + UPerNet of the size that the weights have.

    Raises
    ------
    CheckpointError
        If the weights are those of another network.
    """
    config = _own_config(loaded)
    config["data_preprocessor"] = MODELS.build(config["data_preprocessor"])  # its statistics are in no checkpoint
    with torch.device("meta"):  # neither memory nor time for random weights
        model = MODELS.build(ConfigDict(config))
    load_strictly(model, loaded)
    return model


def build_mmseg(source: Any, loaded: Checkpoint) -> tuple[torch.nn.Module, InputForm]:
    """Model of an mmseg config (path or dictionary) with weights, and its form of input.

    Raises
    ------
    CheckpointError
        If the config cannot be read or built, or the weights do not fit it.
    """
    whole = _read_config(source)
    config = _plain_model(whole, source)
    for part, heads in (
        ("decode_head", _heads(config, "decode_head")),
        ("auxiliary_head", _heads(config, "auxiliary_head")),
    ):
        several = isinstance(config.get(part), list)
        for number, head in enumerate(heads):
            rows = loaded.state_dict.get(f"{part}.{number}.conv_seg.weight" if several else f"{part}.conv_seg.weight")
            if rows is not None:
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
    load_strictly(model, loaded)
    return model, _input_form(whole, config)


def _name(source: Any) -> str:
    return "dictionary" if isinstance(source, dict) else str(source)


def _read_config(source: Any) -> dict[str, Any]:
    try:
        return copy.deepcopy(source) if isinstance(source, dict) else Config.fromfile(str(source)).to_dict()
    except (Exception, SystemExit) as error:  # a config is a program and can fail as one
        raise CheckpointError(
            f"The mmseg config {_name(source)} could not be read ({error}); check the file."
        ) from error


def _plain_model(whole: dict[str, Any], source: Any) -> dict[str, Any]:
    config = whole.get("model", whole)
    if not isinstance(config, dict) or "type" not in config or "backbone" not in config:
        raise CheckpointError(f"The mmseg config {_name(source)} describes no model with a backbone; check the file.")
    config = dict(config)
    config.setdefault("_scope_", "mmseg")
    parts = [config, config["backbone"], *_heads(config, "decode_head"), *_heads(config, "auxiliary_head")]
    for part in parts:
        part.pop("init_cfg", None)  # weights come from the checkpoint, nothing is fetched behind its back
        part.pop("pretrained", None)
        norm = part.get("norm_cfg")
        if norm and norm.get("type") == "SyncBN":
            norm["type"] = "BN"  # same state dict, and runs on one process
    return config


def _heads(config: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    heads = config.get(part) or []
    yield from (head for head in (heads if isinstance(heads, list) else [heads]) if isinstance(head, dict))


def _input_form(whole: dict[str, Any], config: dict[str, Any]) -> InputForm:
    """What the config says of normalisation and channel order, in the words of mmseg 1.x or 0.x; else the usual."""
    said = config.get("data_preprocessor") or whole.get("data_preprocessor")
    if isinstance(said, dict):
        padding = said.get("test_cfg") or {}
        mean, std = said.get("mean"), said.get("std")
        return InputForm(
            mean=tuple(map(float, mean)) if mean is not None else (0.0, 0.0, 0.0),
            std=tuple(map(float, std)) if std is not None else (1.0, 1.0, 1.0),
            rgb=bool(said.get("bgr_to_rgb")),
            divisor=padding.get("size_divisor") or 1,
            size=tuple(padding.get("size") or (0, 0)),
            pad=float(said.get("pad_val") or 0),
        )
    said = whole.get("img_norm_cfg")
    if isinstance(said, dict):
        return InputForm(
            tuple(map(float, said["mean"])), tuple(map(float, said["std"])), bool(said.get("to_rgb", True))
        )
    return InputForm()


def _own_config(loaded: Checkpoint) -> dict[str, Any]:
    state = loaded.state_dict
    if loaded.size is None or loaded.num_classes is None or "decode_head.fpn_bottleneck.conv.weight" not in state:
        raise CheckpointError(
            f"The checkpoint {loaded.path} is not an InternImage + UPerNet segmenter of a known size; "
            "give its mmseg config first: load_segmenter(config, checkpoint)."
        )
    config = model_config(
        loaded.size,
        num_classes=loaded.num_classes,
        head_channels=state["decode_head.fpn_bottleneck.conv.weight"].shape[0],
    )
    auxiliary = state.get("auxiliary_head.convs.0.conv.weight")
    if auxiliary is None:
        del config["auxiliary_head"]
    else:
        config["auxiliary_head"]["channels"] = auxiliary.shape[0]
    return config
