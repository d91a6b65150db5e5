"""How many digits the factors of products have, and which choice is faster on this machine."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from ..errors import ParameterError

Precision = Literal["float32", "bfloat16", "float16"]
Choice = Literal["auto", "float32", "bfloat16", "float16"]
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PIXELS, INPUTS, OUTPUTS = 2048, 512, 2048
"""Sizes of the product that is timed: about those of the MLP in the third level of InternImage-B (448 to 1792)."""
ROUNDS = 5
GAIN = 0.9
"""Share of float32's time that bfloat16 must stay below, so that noise decides nothing."""


def chosen_device(device: str) -> str:
    """The device itself, or what ``"auto"`` stands for: CUDA if there is one, else the CPU."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def chosen_precision(choice: Choice, device: str | torch.device) -> Precision:
    """The precision itself, or what ``"auto"`` stands for on a device.

    Raises
    ------
    ParameterError
        If it is unknown, or float16 is asked for on a device other than CUDA.
    """
    if choice not in get_args(Choice):
        raise ParameterError(f"Unknown precision {choice!r}; use {', '.join(map(repr, get_args(Choice)))}.")
    kind = torch.device(device).type
    if choice == "float16" and kind != "cuda":
        raise ParameterError(f"The precision 'float16' needs CUDA, not the device {kind!r}; use 'bfloat16' or 'auto'.")
    if choice != "auto":
        return choice
    faster = is_bfloat16_faster() if kind == "cpu" else kind == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if faster else "float32"


@lru_cache(maxsize=1)
def is_bfloat16_faster() -> bool:
    """Whether a product on the CPU, as large as those of a typical layer, takes less time in bfloat16: timed once."""
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(ROUNDS + 1):  # the first round prepares kernels, and is never the best
        for kind in best:
            best[kind] = min(best[kind], _seconds(kind))
    return best[torch.bfloat16] < GAIN * best[torch.float32]


@torch.inference_mode()
def _seconds(kind: torch.dtype) -> float:
    x, weight = torch.ones(PIXELS, INPUTS, dtype=kind), torch.ones(OUTPUTS, INPUTS, dtype=kind)
    start = time.perf_counter()
    F.linear(x, weight)
    return time.perf_counter() - start


def products(device: torch.device, precision: Precision) -> torch.autocast:
    """Context in which matrix products and convolutions run in a precision."""
    kind = TYPES[precision] if precision != "float32" else torch.bfloat16  # which does not matter then
    return torch.autocast(device.type, kind, enabled=precision != "float32")


def round_weights(model: torch.nn.Module, precision: Precision) -> None:
    """Keep the weights of products in a precision, or autocast would round them again for each image."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and not name.endswith("conv_seg"):
            module.to(TYPES[precision])
