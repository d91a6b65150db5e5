"""What a forward pass costs: arithmetic counted, seconds predicted from it and measured. A process for each model."""

from __future__ import annotations

import json
import statistics
import sys

import mmseg.models  # noqa: F401  (registers heads and segmentors)
import torch
from measuring import peak_memory, process_peak, seconds
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from iood_helpers.model import internimage
from iood_helpers.model.dcnv3 import dcnv3
from iood_helpers.model.fast import uper_head
from iood_helpers.model.fast.malloc import keep_freed_memory
from iood_helpers.model.sizes import model_config

SIZE = (512, 1024)
CORNERS = 4


def forward(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """As the segmenter does it."""
    return model.decode_head.cls_seg(uper_head.decoder_features(model.decode_head, model.extract_feat(image)))


def arithmetic(model: torch.nn.Module, image: torch.Tensor) -> float:
    """Operations of a pass: products and sums of matrices and convolutions, and those of the DCNv3 core."""
    core = 0

    def counted(value, offset, mask, **options):
        nonlocal core
        core += 2 * CORNERS * mask.numel() * (value.shape[-1] // options["groups"])
        return dcnv3(value, offset, mask, **options)

    internimage.dcnv3 = counted
    try:
        with FlopCounterMode(display=False) as counter:
            forward(model, image)
    finally:
        internimage.dcnv3 = dcnv3
    return counter.get_total_flops() + core


def machine_rate(n: int = 3072) -> float:
    """Operations per second that a large float32 matrix product reaches on this machine."""
    x, y, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    return 2 * n**3 / min(seconds(lambda: torch.mm(x, y, out=out)) for _ in range(10))


def main(size: str) -> None:
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(model_config(size, num_classes=19))).eval()
    image = torch.randn(1, 3, *SIZE)
    flop, weights = arithmetic(model, image), sum(p.numel() * p.element_size() for p in model.parameters())
    memory = peak_memory(lambda: forward(model, image))
    keep_freed_memory()
    forward(model, image)
    measured = statistics.median(seconds(lambda: forward(model, image)) for _ in range(5))
    row = {"model": size, "flop": flop, "weights": weights, "memory": memory, "process": process_peak()}
    print(json.dumps({**row, "measured": measured, "predicted": flop / machine_rate()}), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1])
