"""From weights, or from an mmseg config and weights, to a model and the form of input that it wants."""

from __future__ import annotations

import math
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
from . import (
    efficientvit,  # noqa: F401  (registers backbone and head)
    efficientvit_zoo,
    internimage,  # noqa: F401  (registers the backbone)
)
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


def build_mmseg(source: Any, loaded: Checkpoint) -> tuple[torch.nn.Module, InputForm]:
    """Model of an mmseg config (path or dictionary) with weights, and its form of input.

    Raises
    ------
    CheckpointError
        If the config cannot be read or built, or the weights do not fit it.
    """
    whole = _read_config(source)
    config = _plain_model(whole, source)
    for part in ("decode_head", "auxiliary_head"):
        several = isinstance(config.get(part), list)
        for number, head in enumerate(_heads(config, part)):
            rows = loaded.state_dict.get(f"{part}.{number}.conv_seg.weight" if several else f"{part}.conv_seg.weight")
            if rows is not None and rows.ndim == 4:
                head["num_classes"] = rows.shape[0]
                head.pop("out_channels", None)
    form = _input_form(whole, config, source)
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
    _check_windows(model, source)
    load_strictly(model, loaded)
    return model, form


def _check_windows(model: torch.nn.Module, source: Any) -> None:
    """mmseg looks at ``test_cfg`` only when it predicts."""
    said = model.test_cfg or {}
    mode, crop, stride = (said.get(key) for key in ("mode", "crop_size", "stride"))
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
    return {"_scope_": "mmseg", **_plain(config)}


def _plain(part: Any) -> Any:
    """The part of a config without what fetches weights behind the checkpoint's back, and fit for one process."""
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


def _input_form(whole: dict[str, Any], config: dict[str, Any], source: Any) -> InputForm:
    """What the config says of normalisation and channel order, in the words of mmseg 1.x or 0.x; else the usual."""
    said = config.get("data_preprocessor") or whole.get("data_preprocessor")
    old = whole.get("img_norm_cfg")
    try:
        if isinstance(said, dict):
            return _form_of_preprocessor(said)
        if isinstance(old, dict):
            return InputForm(_three(old["mean"]), _three(old["std"]), bool(old.get("to_rgb", True)))
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"The mmseg config {_name(source)} normalises its images in a way that is not understood ({error}); "
            "give mean and std of three channels."
        ) from error
    return InputForm()


def _form_of_preprocessor(said: dict[str, Any]) -> InputForm:
    padding = said.get("test_cfg") or {}
    mean, std = said.get("mean"), said.get("std")
    normalized = mean is not None and std is not None  # mmseg, too, wants both or does nothing
    height, width = map(int, padding.get("size") or (0, 0))
    return InputForm(
        mean=_three(mean) if normalized else (0.0, 0.0, 0.0),
        std=_three(std) if normalized else (1.0, 1.0, 1.0),
        rgb=bool(said.get("bgr_to_rgb")),
        divisor=max(int(padding.get("size_divisor") or 1), 1),
        size=(height, width),
        pad=float(said.get("pad_val") or 0),
    )


def _three(values: Any) -> tuple[float, ...]:
    numbers = tuple(map(float, values))
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{values} are not three numbers")
    return numbers


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
    config = model_config(
        loaded.size,
        num_classes=loaded.num_classes,
        head_channels=merge.shape[0],
    )
    if auxiliary is None:
        del config["auxiliary_head"]
    else:
        config["auxiliary_head"]["channels"] = auxiliary.shape[0]
    return config
