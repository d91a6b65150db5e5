"""Checkpoints in the form of the official ones, with random weights of any size.

The official files were trained with mmcv: names of mmseg, half precision, 150 rows in both classifiers, and beside the
weights what the training left: the optimizer, class names, the best score as a number of NumPy, loggers.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmseg.models  # noqa: F401  (registers the heads)
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmseg.registry import MODELS
from torch import Tensor

from iood_helpers import internimage  # noqa: F401  (registers the backbone)
from iood_helpers.classes import CLASS_NAMES
from iood_helpers.configs import model_config

ABSENT = "trainer_of_somebody_else"
"""Module that exists while a file is written, and never where it is read."""


def write_official_checkpoint(
    path: str | Path, size: str, *, half: bool = True, rows: int = 150, seed: int = 0, foreign: bool = True
) -> Path:
    """Write a file as the official ones are, with random weights.

    Parameters
    ----------
    path
        The file to write; XL takes 736 MB on disk, and as much memory.
    size
        One of ``iood_helpers.configs.SIZES``.
    half
        Store the weights in half precision, as the official files do.
    rows
        Rows of both classifiers; the first 19 are those of Cityscapes.
    seed
        Of the weights.
    foreign
        Put objects beside the weights whose classes are unknown where the file is read.

    Returns
    -------
    pathlib.Path
        ``path``.
    """
    state = random_state(size, half=half, rows=rows, seed=seed)
    content: dict[str, Any] = {"meta": _meta(), "state_dict": state, "optimizer": _optimizer(state)}
    if not foreign:
        torch.save(content, path)
        return Path(path)
    with _absent_module() as module:
        content["meta"]["hook_msgs"] |= {"best_score": np.float64(0.8), "logger": module.Logger("mIoU")}
        content["message_hub"] = {"log_scalars": {"train/loss": HistoryBuffer([1.0, 0.5], [1, 1])}}
        torch.save(content, path)
    return Path(path)


def random_state(size: str, *, half: bool = True, rows: int = 150, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep activations at their size from layer to layer, by mmseg's names."""
    with torch.device("meta"):  # names and shapes alone
        model = MODELS.build(model_config(size, num_classes=rows))
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float16 if half else torch.float32
    state = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(160_000)
        else:
            state[name] = _random(name, tuple(tensor.shape), generator).to(dtype)
    return state


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith(("weight", "running_var", "gamma1", "gamma2"))))
    fan_in = int(np.prod(shape[1:]))
    weights = torch.randn(shape, generator=generator) / fan_in**0.5
    if ".conv_seg." in name:  # activations are positive: else their mean alone would choose one class everywhere
        weights -= weights.mean(1, keepdim=True)
    return weights


def _meta() -> dict[str, Any]:
    return {
        "mmseg_version": "0.27.0+",
        "config": "model = dict(type='EncoderDecoder')",
        "CLASSES": tuple(CLASS_NAMES),
        "PALETTE": [[128, 64, 128]] * len(CLASS_NAMES),
        "iter": 160_000,
        "hook_msgs": {"best_ckpt": "best_mIoU_iter_160000.pth"},
    }


def _optimizer(state: dict[str, Tensor]) -> dict[str, Any]:
    """Of AdamW, for the vectors alone: the averages of all weights would be twice the file."""
    vectors = [tensor for tensor in state.values() if tensor.dim() == 1]
    moments = {
        i: {"step": 160_000, "exp_avg": torch.zeros_like(t), "exp_avg_sq": torch.zeros_like(t)}
        for i, t in enumerate(vectors)
    }
    return {"state": moments, "param_groups": [{"lr": 2e-5, "betas": (0.9, 0.999), "params": list(moments)}]}


@contextmanager
def _absent_module() -> Iterator[types.ModuleType]:
    """A module with a class ``Logger``, gone afterwards."""
    module = types.ModuleType(ABSENT)

    class Logger:
        def __init__(self, metric: str) -> None:
            self.metric, self.history = metric, [np.float32(0.5), np.float32(0.8)]

    Logger.__module__, Logger.__qualname__ = ABSENT, "Logger"
    module.Logger = Logger
    sys.modules[ABSENT] = module
    try:
        yield module
    finally:
        del sys.modules[ABSENT]
