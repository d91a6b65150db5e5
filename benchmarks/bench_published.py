"""The published step on one image: the algebra of this package against whole feature tensors."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from measuring import alone, compare, report
from scenes import WIDTHS, fit_on, make_prediction
from sklearn.metrics.pairwise import euclidean_distances

from iood_helpers.method.embedder import PixelEmbedder, random_projection
from iood_helpers.method.kmeans import ClassKMeans
from iood_helpers.method.refinement import refine_confidence
from iood_helpers.model.segmenter import Prediction

FACTOR = 0.8  # with 1.1 next to nothing is masked, and equal masks would say little


def plain_mask(prediction: Prediction, kmeans: ClassKMeans, embedder: PixelEmbedder) -> np.ndarray:
    """All levels upsampled, concatenated, projected; distances of all pixels; then the selection."""
    maps = [
        F.interpolate(torch.from_numpy(m)[None], prediction.shape, mode="bilinear", align_corners=False)
        for m in prediction.features
    ]
    channels = sum(map(len, prediction.features))
    weight, bias = map(torch.from_numpy, random_projection(channels, embedder.dim, embedder.seed))
    vectors = F.conv2d(torch.cat(maps, 1), weight[:, :, None, None], bias)[0]
    vectors = vectors.permute(1, 2, 0).reshape(-1, len(weight)).numpy()
    mask = np.zeros(prediction.classes.size, bool)
    unsure, classes = prediction.confidence.ravel() < 0.5, prediction.classes.ravel()
    for c, centers in kmeans.centers_.items():
        rows = np.flatnonzero(classes == c)
        distance = euclidean_distances(vectors[rows], centers)
        chosen = unsure[rows]
        if chosen.any():
            mask[rows[chosen]] = distance[chosen].min(1) > FACTOR * distance[chosen].mean()
    return mask.reshape(prediction.shape)


def main() -> None:
    prediction, embedder = make_prediction("t", (512, 1024)), PixelEmbedder(projection="random", dim=512)
    kmeans = fit_on(prediction, embedder)

    def ours() -> np.ndarray:
        return refine_confidence(prediction, kmeans, embedder, "published", factor=FACTOR)[1]

    ours_mask, wanted = ours(), plain_mask(prediction, kmeans, embedder)
    agreement = f"masks differ in {(ours_mask != wanted).sum()} of {wanted.sum()} masked pixels"
    row = compare(
        "published step, pyramid of T, 512 x 1024, D = 512",
        lambda: plain_mask(prediction, kmeans, embedder),
        ours,
        agreement,
    )
    report([row])
    del prediction, kmeans

    prediction, embedder = make_prediction("xl", (1024, 2048)), PixelEmbedder(projection="random", dim=1536)
    kmeans = fit_on(prediction, embedder)
    pixels, channels = 1024 * 2048, 15 * WIDTHS["xl"]
    tera, giga = 2 * pixels * channels * 1536 / 1e12, 4 * pixels * (channels + 1536) / 1e9
    row = alone(
        "published step, pyramid of XL, 1024 x 2048, D = 1536",
        lambda: refine_confidence(prediction, kmeans, embedder, "published", factor=FACTOR),
        f"the plain way needs {tera:.1f} TFLOP and {giga:.0f} GB for the projection alone",
    )
    report([row])


if __name__ == "__main__":
    main()
