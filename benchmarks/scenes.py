"""Predictions as large as those of the real models, filled with smooth random numbers: cost depends on sizes only."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from iood_helpers.method.distances import Distances
from iood_helpers.method.embedder import PixelEmbedder
from iood_helpers.method.kmeans import ClassKMeans
from iood_helpers.method.statistics import DistanceStatistics
from iood_helpers.model.segmenter import Prediction

UNSURE = 0.05  # share of pixels below the confidence threshold of 0.5
WIDTHS = {"t": 64, "s": 80, "b": 112, "l": 160, "xl": 192}


def make_prediction(model: str, size: tuple[int, int], decoder: int = 512, seed: int = 0) -> Prediction:
    """Prediction for an image of a size, with the pyramid of a model."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int, shape: tuple[int, int]) -> np.ndarray:
        coarse = torch.randn(1, channels, 8, 16, generator=generator)
        fine = 0.3 * torch.randn(1, channels, *shape, generator=generator)
        return (F.interpolate(coarse, shape, mode="bicubic", align_corners=False) + fine)[0].numpy()

    shapes = [tuple(-(-s // stride) for s in size) for stride in (4, 8, 16, 32)]
    features = tuple(smooth(WIDTHS[model] * 2**k, shape) for k, shape in enumerate(shapes))
    confidence = smooth(1, size)[0]
    confidence = np.clip(0.5 + (confidence - np.quantile(confidence, UNSURE)) / 4, 0.06, 1).astype(np.float32)
    return Prediction(
        classes=smooth(19, size).argmax(0).astype(np.uint8),
        confidence=confidence,
        logits=smooth(19, shapes[0]),
        features=features,
        decoder=smooth(decoder, shapes[0]),
    )


def fit_on(
    prediction: Prediction, embedder: PixelEmbedder, n_per_class: int = 400, k: int = 30, n_shared: int = 0
) -> ClassKMeans:
    """Calibrated centres of pixels of a prediction; learns the embedder's statistics, too, where it needs them."""
    rng = np.random.default_rng(0)
    height, width = prediction.shape
    pixels = np.stack([rng.integers(0, height, 60_000), rng.integers(0, width, 60_000)], 1)
    classes = prediction.classes[pixels[:, 0], pixels[:, 1]]
    chosen = np.concatenate([np.flatnonzero(classes == c)[:n_per_class] for c in range(19)])
    if embedder.standardize:
        embedder.fit(embedder.raw.transform(prediction, pixels[chosen]))
    vectors = embedder.transform(prediction, pixels[chosen])
    model = ClassKMeans(k, n_init=1, max_iter=20, n_shared=n_shared).fit(vectors[::2], classes[chosen][::2])
    if n_shared:
        model.statistics_ = DistanceStatistics.from_maps([Distances(prediction, model, embedder).averaged()])
    return model.calibrate(vectors[1::2], classes[chosen][1::2])
