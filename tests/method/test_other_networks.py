"""Networks of other families than InternImage go through extraction, fit and refinement, whatever their strides."""

from __future__ import annotations

from pathlib import Path

import mmseg.models  # registers heads and segmentors
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from random_weights import random_state

from iood_helpers import ClassKMeans, PixelEmbedder, extract_embeddings, load_dataset, load_segmenter, refine_confidence
from iood_helpers.method.distances import Distances
from iood_helpers.method.levels import offered
from iood_helpers.model.efficientvit_zoo import model_config

CONFIGS = Path(mmseg.__file__).parent / ".mim" / "configs" / "_base_" / "models"
NETWORKS = {
    "cgnet": ([2, 4, 8, 8, 8], (0, "stride8", "decoder")),
    "segformer_mit-b0": ([4, 8, 16, 32, 4, 4], ("stride8", 3, "logits")),
    "fast_scnn": ([8, 32, 8, 8, 8], ("stride32", "decoder")),
    "deeplabv3plus_r50-d8": ([4, 8, 8, 8, 4, 4], ("stride4", 3)),
    "efficientvit-b0": ([4, 8, 16, 32, 8, 8], ("stride8", "decoder")),
}
"""Strides of the feature maps, the decoder and the logits, and levels to make vectors of."""


def config(name):
    if name.startswith("efficientvit"):
        return model_config(name)
    model = Config.fromfile(str(CONFIGS / f"{name}.py")).to_dict()["model"]
    if name.startswith("deeplab"):  # a shallower and narrower one
        model["backbone"] |= {"depth": 18, "base_channels": 16}
        model["decode_head"] |= {"in_channels": 128, "c1_in_channels": 16, "channels": 32, "c1_channels": 8}
        model["auxiliary_head"] |= {"in_channels": 64, "channels": 16}
    return model


def load(name, folder, **options):
    """Segmenter with random weights."""
    model = config(name)
    made = MODELS.build(ConfigDict({"_scope_": "mmseg", **model, "pretrained": None}))
    shapes = {name: tensor.shape for name, tensor in made.state_dict().items()}
    torch.save({"state_dict": random_state(shapes)}, folder / "weights.pth")
    return load_segmenter(model, folder / "weights.pth", **options)


def plain_distances(prediction, levels, rows, kmeans):
    """What ``Distances.scaled`` is, by enlarging whole maps to the grid of the logits; NaN where a class is unknown."""
    grid = prediction.logits.shape[1:]
    numbers = {f"stride{step}": number for number, step in list(offered(prediction).items())[::-1]}
    parts = []
    for level in levels:
        number = numbers.get(level, level)
        values = getattr(prediction, level) if level in ("decoder", "logits") else prediction.features[number]
        parts.append(F.interpolate(torch.from_numpy(values)[None], grid, mode="bilinear", align_corners=False)[0])
    vectors = torch.cat(parts).flatten(1).T.numpy()
    mean, scale = rows.embeddings.mean(0), np.maximum(rows.embeddings.std(0), 1e-6)  # random channels may be dead
    vectors = (vectors - mean) / scale
    found = np.full(len(vectors), np.nan)
    for index, label in enumerate(prediction.logits.argmax(0).ravel()):
        if label in kmeans.centers_:
            found[index] = np.linalg.norm(kmeans.centers_[label] - vectors[index], axis=1).min()
    return found.reshape(grid)


@pytest.mark.parametrize("name", NETWORKS)
def test_from_images_to_refined_confidences(name, tmp_path):
    segmenter, (strides, levels) = load(name, tmp_path), NETWORKS[name]
    prediction = segmenter.predict(load_dataset("mini/val")[0].image())
    assert list(offered(prediction).values()) == strides

    loaded = []
    for split, limit in (("train-fit", 6), ("train-calibration", 3)):
        store = extract_embeddings(
            *(segmenter, load_dataset(f"mini/{split}", limit=limit), PixelEmbedder(levels), tmp_path / split),
            n_per_class=200,
            per="predicted",
        )
        assert store.levels == list(levels)
        loaded.append(store.load(200, levels=levels))
    rows, calibration = loaded
    embedder = PixelEmbedder(levels, standardize=True).fit(rows.embeddings)
    kmeans = ClassKMeans(5, n_init=1).fit(embedder.apply(rows.embeddings), rows.predicted)
    kmeans.calibrate(embedder.apply(calibration.embeddings), calibration.predicted)

    distances = Distances(prediction, kmeans, embedder)
    wanted = plain_distances(prediction, levels, rows, kmeans)
    known = np.isfinite(wanted)
    assert known.mean() > 0.5
    for label in np.unique(distances.classes[known]):
        found, right = (values[known & (distances.classes == label)] for values in (distances.scaled, wanted))
        unit = np.median(right / found)  # of this class
        np.testing.assert_allclose(unit * found, right, rtol=1e-3, atol=1e-2 * np.median(right))

    for mode in ("calibrated", "fused", "published"):
        confidence, mask = refine_confidence(prediction, kmeans, embedder, mode, distances=distances)
        assert confidence.shape == mask.shape == prediction.shape
        assert confidence.min() >= 0 and confidence.max() <= 1
        assert (confidence != prediction.confidence).any() or mode == "published"


@pytest.mark.parametrize("name", ["fast_scnn", "efficientvit-b0"])
def test_in_bfloat16_maps_are_float32(name, tmp_path):
    prediction = load(name, tmp_path, precision="bfloat16").predict(load_dataset("mini/val")[0].image())
    assert all(v.dtype == np.float32 for v in (*prediction.features, prediction.decoder, prediction.logits))
