"""Make overview.webp: scenes with unknown objects, confidence before, confidence after, from a finished run.

python book/figures/make_overview.py [--run runs/mini]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from iood_helpers import ClassKMeans, PixelEmbedder, load_dataset, load_segmenter, refine_confidence
from iood_helpers.course.plots import colorize_values, mask_overlay

HERE = Path(__file__).resolve().parent
SCENES = (34, 50, 54, 14)
"""Two scenes with a large gain, one with a usual one, and one where the object stays hidden."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=HERE.parent.parent / "runs" / "mini")
    run = parser.parse_args().run
    settings = json.loads((run / "run.json").read_text())["parameters"]
    segmenter = load_segmenter(settings["checkpoint"])
    embedder = PixelEmbedder.load(run / "embedder.safetensors")
    kmeans = ClassKMeans.load(run / "kmeans.safetensors")
    columns = []
    for index in SCENES:
        sample = load_dataset("mini/SMIYC")[index]
        prediction = segmenter.predict(sample.image())
        refined, _ = refine_confidence(
            prediction, kmeans, embedder, strength=settings["strength"], smooth=settings["smooth"]
        )
        outlined = mask_overlay(sample.image(), sample.invalid(), strength=0.35)
        columns.append(np.concatenate([outlined, colorize_values(prediction.confidence), colorize_values(refined)]))
    Image.fromarray(np.concatenate(columns, 1)).save(HERE / "overview.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
