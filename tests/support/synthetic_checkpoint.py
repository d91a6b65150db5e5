"""Checkpoints in the official form with random weights, of every size: for what cannot be downloaded.

python tests/support/synthetic_checkpoint.py xl weights.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mmseg.models  # noqa: F401  (registers the heads)
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import nn

from iood_helpers.model import internimage  # noqa: F401  (registers the backbone)
from iood_helpers.model.sizes import model_config


class HistoryBuffer:
    """Stands for an object of the training tool, which a reader does not have."""

    def __init__(self, values: list[float]) -> None:
        self.values, self.window = values, {"mean": len(values)}


def write_official_checkpoint(
    path: Path, size: str, *, half: bool = True, rows: int = 150, seed: int = 0, foreign: bool = True
) -> Path:
    """Random weights of a size as the official files hold them.

    Parameters
    ----------
    path
        File to write.
    size
        "nano", "t", "s", "b", "l" or "xl".
    half
        Whether weights are stored in half precision, as in the official files.
    rows
        Rows of both classifiers.
    seed
        Seed of the weights.
    foreign
        Whether ``optimizer``, ``meta`` and a log with objects of a class that readers lack stand beside the weights.
    """
    torch.manual_seed(seed)
    model = MODELS.build(ConfigDict(model_config(size, num_classes=rows)))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.05)
            module.running_var.uniform_(0.8, 1.2)
    state = model.state_dict()
    for name, tensor in state.items():
        if half and tensor.is_floating_point():
            state[name] = tensor.half()
    content = {"state_dict": state, "meta": {"iter": 160_000, "CLASSES": None}}
    if foreign:
        first = next(iter(state))
        content["meta"] |= {"hook_msgs": {"best": HistoryBuffer([0.5])}, "time": "now"}
        content["message_hub"] = {"log_scalars": {"train/loss": HistoryBuffer([1.0, 0.5])}}
        content["optimizer"] = {"state": {0: {"step": 160_000, "exp_avg": state[first].clone()}}, "param_groups": []}
    torch.save(content, path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("size")
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    write_official_checkpoint(arguments.path, arguments.size)
