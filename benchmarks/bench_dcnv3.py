"""DCNv3 core on the CPU: the compiled loop against the grid_sample formulation."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F
from measuring import compare, report

from iood_helpers.model.dcnv3 import dcnv3

SIZES = [(128, 256, 64, 4), (128, 256, 192, 12), (32, 64, 768, 48)]


def plain_dcnv3(value: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor, groups: int) -> torch.Tensor:
    """The common formulation: a padded copy, coordinates in -1..1, one sample per point kept, then the weighted sum."""
    n, height, width, channels = value.shape
    padded = F.pad(value, (0, 0, 1, 1, 1, 1))
    size = torch.tensor([width + 2.0, height + 2.0])
    y, x = torch.meshgrid(torch.arange(height) + 1.5, torch.arange(width) + 1.5, indexing="ij")
    reference = (torch.stack((x, y), -1) / size).view(1, height * width, 1, 1, 2)
    dx, dy = torch.meshgrid(torch.arange(3) - 1.0, torch.arange(3) - 1.0, indexing="ij")
    grid = (torch.stack((dx, dy), -1) / size).view(1, 1, 1, 9, 2)
    locations = reference + grid + offset.view(n, height * width, groups, 9, 2) / size
    samples = F.grid_sample(
        padded.permute(0, 3, 1, 2).reshape(n * groups, channels // groups, height + 2, width + 2),
        (2 * locations - 1).transpose(1, 2).flatten(0, 1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    weights = mask.view(n, height * width, groups, 9).softmax(-1).transpose(1, 2)
    out = (samples * weights.reshape(n * groups, 1, height * width, 9)).sum(-1)
    return out.view(n, channels, height * width).transpose(1, 2).reshape(n, height, width, channels)


def first_call(cache: str) -> float:
    """Seconds of the first call in a process of its own, where the compiled core is kept in the folder ``cache``."""
    code = """
import time
import torch
from iood_helpers.model.dcnv3 import dcnv3
inputs = torch.randn(1, 8, 8, 16), torch.randn(1, 8, 8, 18), torch.randn(1, 8, 8, 9)
start = time.perf_counter()
dcnv3(*inputs, groups=1, softmax=True, backend="numba")
print(time.perf_counter() - start)
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    return float(subprocess.check_output([sys.executable, "-c", code], env=environment, text=True))


def main() -> None:
    rows = []
    for height, width, channels, groups in SIZES:
        torch.manual_seed(0)
        value = torch.randn(1, height, width, channels)
        offset, mask = torch.randn(1, height, width, groups * 18), torch.randn(1, height, width, groups * 9)
        ways = {
            "plain": lambda v=value, o=offset, m=mask, g=groups: plain_dcnv3(v, o, m, g),
            "ours": lambda v=value, o=offset, m=mask, g=groups: dcnv3(v, o, m, groups=g, softmax=True),
        }
        exact = dcnv3(value.double(), offset.double(), mask.double(), groups=groups, softmax=True)
        errors = {name: (way().double() - exact).abs().max().item() for name, way in ways.items()}
        what = f"DCNv3 core {height} x {width} x {channels}, {groups} groups"
        agreement = f"error to float64 {errors['ours']:.0e}, plain {errors['plain']:.0e}"
        rows.append(compare(what, ways["plain"], ways["ours"], agreement, rounds=9))
    report(rows)
    with tempfile.TemporaryDirectory() as cache:
        found = {"first_call": first_call(cache), "later": statistics.median(first_call(cache) for _ in range(5))}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
