"""bfloat16 beside float32: do classes agree, and how long does it take? Trained small models, untrained large ones.

Photographs are used where IOOD_DATA names a folder that holds camvid/.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

import numpy as np
import torch
from measuring import in_turn, nothing
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from iood_helpers import load_dataset, load_segmenter
from iood_helpers.model.checkpoints import Checkpoint
from iood_helpers.model.segmenter import Segmenter
from iood_helpers.model.sizes import model_config

PRECISIONS = ("float32", "bfloat16")
IMAGES = 60


def untrained(size: str, precision: str) -> Segmenter:
    """Random weights, the same ones each time."""
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(model_config(size, num_classes=19)))
    return Segmenter(model, Checkpoint(Path("random"), "", {}, {}, size, 19), precision=precision)


def compare(model: str, images: list[np.ndarray], where: str, segmenters: list[Segmenter]) -> None:
    """Print agreement over all images, and times on the first."""
    predictions = [[segmenter.predict(image) for image in images] for segmenter in segmenters]
    agreement = [(a.classes == b.classes).mean() for a, b in zip(*predictions, strict=True)]
    confidence = [abs(a.confidence - b.confidence).mean() for a, b in zip(*predictions, strict=True)]
    times = in_turn([(nothing, lambda s=s: s.predict(images[0])) for s in segmenters])
    weights = [sum(p.numel() * p.element_size() for p in s.model.parameters()) for s in segmenters]
    found = {
        "precision_of": model,
        "images": where,
        "agreement": statistics.mean(agreement),
        "worst": min(agreement),
        "confidence": statistics.mean(map(float, confidence)),
        "seconds": [statistics.median(each[i] for each in times) for i in range(2)],
        "ratio": statistics.median(each[0] / each[1] for each in times),
        "weights": weights,
    }
    print(json.dumps(found), flush=True)


def main() -> None:
    images = [sample.image() for sample in load_dataset("mini/val", limit=IMAGES)]
    compare("nano", images, f"{len(images)} of mini/val", [load_segmenter("nano", precision=p) for p in PRECISIONS])
    root = os.environ.get("IOOD_DATA")
    if root and (Path(root) / "camvid").is_dir():
        images = [sample.image() for sample in load_dataset("camvid/test", root=root, limit=IMAGES)]
        segmenters = [load_segmenter("nano-camvid", precision=p) for p in PRECISIONS]
        compare("nano-camvid", images, f"{len(images)} of camvid/test", segmenters)
    noise = np.random.default_rng(0).integers(0, 256, (512, 1024, 3), dtype=np.uint8)
    for size in ("t", "xl"):
        segmenters = [untrained(size, precision) for precision in PRECISIONS]
        compare(f"{size}, random weights", [noise], "1 of noise, 512 x 1024", segmenters)


if __name__ == "__main__":
    main()
