"""EfficientViT-B0 on an image of 1280 x 736 pixels: from the image to the refined confidence.

With the authors' weights where ``IOOD_DATA`` has them, else with random ones, which cost the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import alone, report
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from PIL import Image
from scenes import fit_on

from iood_helpers import PixelEmbedder, Segmenter, load_dataset, load_segmenter, refine_confidence
from iood_helpers.model.efficientvit_zoo import below_data_root, model_config

NAME = "efficientvit-b0-cityscapes"
SIZE = (1280, 736)


def segmenter() -> tuple[Segmenter, str]:
    """The network, and whose weights it has."""
    if below_data_root(NAME):
        return load_segmenter(NAME), "the authors' weights"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"
        torch.save({"state_dict": MODELS.build(ConfigDict(model_config("efficientvit-b0"))).state_dict()}, path)
        return load_segmenter(path), "random weights"


def main() -> None:
    network, whose = segmenter()
    image = np.array(Image.fromarray(load_dataset("mini/val")[0].image()).resize(SIZE, Image.Resampling.BILINEAR))
    embedder = PixelEmbedder((0, 2, "decoder"), standardize=True)
    kmeans = fit_on(network.predict(image), embedder, n_per_class=2000, n_shared=1000)
    what = f"EfficientViT-B0, {SIZE[0]} x {SIZE[1]}, forward pass"
    rows = [alone(what, lambda: network.predict(image), whose)]
    for mode in ("calibrated", "fused", "surplus"):
        way = lambda mode=mode: refine_confidence(network.predict(image), kmeans, embedder, mode)
        rows.append(alone(f"{what} and {mode} refinement", way, whose))
    report(rows)


if __name__ == "__main__":
    main()
