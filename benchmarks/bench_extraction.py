"""Embeddings of 19 x 20 000 pixels from 500 images: what drawing and storing add to the forward pass of T."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from types import SimpleNamespace

import mmseg.models  # noqa: F401  (registers heads and segmentors)
import torch
from measuring import alone, report, seconds
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from scenes import make_prediction

from iood_helpers.method.embedder import PixelEmbedder
from iood_helpers.method.store import extract_embeddings
from iood_helpers.model.fast import uper_head
from iood_helpers.model.fast.malloc import keep_freed_memory
from iood_helpers.model.sizes import model_config

IMAGES, PIXELS, SIZE = 500, 20_000, (512, 1024)
SHARE = 20  # images that are really drawn from; every image costs the same


def main() -> None:
    prediction = make_prediction("t", SIZE)
    label = prediction.classes.copy()
    sample = SimpleNamespace(name="image", image=lambda: None, label=lambda: label)
    segmenter = SimpleNamespace(
        predict=lambda _image: prediction, checkpoint=SimpleNamespace(sha256="none"), precision="float32"
    )

    class Images(list):
        name, split = "benchmark", "all"

    images = Images([sample] * SHARE)
    with tempfile.TemporaryDirectory() as folder:
        stores = iter(range(1000))

        def ours() -> None:
            options = {"n_per_class": PIXELS * SHARE // IMAGES, "progress": False}
            extract_embeddings(segmenter, images, PixelEmbedder(), Path(folder) / str(next(stores)), **options)

        row = alone(f"embeddings of 19 x {PIXELS} pixels, {SHARE} of {IMAGES} images", ours, "", rounds=5)

    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(model_config("t", num_classes=19))).eval()
    image = torch.randn(1, 3, *SIZE)
    keep_freed_memory()

    def forward() -> None:
        uper_head.decoder_features(model.decode_head, model.extract_feat(image))

    forward()
    whole = statistics.median(seconds(forward) for _ in range(5))
    agreement = f"{row.ours / SHARE / whole:.1%} of the time of the forward pass of T, on top of it"
    report([type(row)(**{**vars(row), "agreement": agreement})])


if __name__ == "__main__":
    with torch.inference_mode():
        main()
