"""The published rule to the letter, and the flaws of its code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_prediction

from iood_helpers.errors import ClusteringError, EmbeddingError
from iood_helpers.method.embedder import PixelEmbedder, random_projection
from iood_helpers.method.kmeans import ClassKMeans
from iood_helpers.method.published import fit_per_image, with_fresh_projection
from iood_helpers.method.refinement import refine_confidence


@pytest.fixture(scope="module")
def embedder():
    return PixelEmbedder((0, 1, 2, 3), "random", dim=12)


@pytest.fixture(scope="module")
def kmeans(embedder):
    pixels = np.argwhere(np.ones((37, 50), bool))[::3]
    x = np.concatenate([embedder.transform(make_prediction(seed), pixels) for seed in range(4)])
    return ClassKMeans(5).fit(x, np.random.default_rng(0).integers(0, 19, len(x)))


def literal_published(prediction, kmeans, threshold, factor):
    """The published steps as they are described: whole maps, every pixel, then the comparison."""
    maps = [
        F.interpolate(torch.from_numpy(f)[None], prediction.shape, mode="bilinear", align_corners=False)
        for f in prediction.features
    ]
    weight, bias = map(torch.from_numpy, random_projection(18, 12, seed=0))
    embedded = F.conv2d(torch.cat(maps, 1), weight[:, :, None, None], bias)[0].numpy().transpose(1, 2, 0)
    mask = np.zeros(prediction.shape, bool)
    for c in kmeans.centers_:
        chosen = (prediction.confidence < threshold) & (prediction.classes == c)
        if chosen.any():
            distance = np.linalg.norm(embedded[chosen][:, None] - kmeans.centers_[c][None], axis=-1)
            mask[chosen] = distance.min(1) > factor * distance.mean()
    return mask


@pytest.mark.parametrize("threshold, factor", [(0.5, 1.1), (0.5, 0.8), (0.9, 0.7)])
def test_published_mode_is_the_published_rule(prediction, kmeans, embedder, threshold, factor):
    options = {"confidence_threshold": threshold, "factor": factor}
    confidence, mask = refine_confidence(prediction, kmeans, embedder, mode="published", **options)
    wanted = literal_published(prediction, kmeans, threshold, factor)
    assert (mask != wanted).sum() <= 1  # one pixel may lie on the limit to rounding
    if factor < 1:
        assert 20 < mask.sum() < mask.size
    assert (confidence[mask] == np.float32(0.0001)).all()
    np.testing.assert_array_equal(confidence[~mask], prediction.confidence[~mask])


def test_a_fresh_projection_makes_another_mask(prediction, kmeans, embedder):
    fresh = with_fresh_projection(embedder, 9)
    _, fixed = refine_confidence(prediction, kmeans, embedder, mode="published", factor=0.8)
    _, other = refine_confidence(prediction, kmeans, fresh, mode="published", factor=0.8)
    assert (fixed != other).mean() > 0.01


def test_a_fresh_projection_keeps_the_rest(prediction):
    pixels = np.array([[3, 4], [20, 30]])
    raw = PixelEmbedder((0, 1)).transform_grid(prediction).reshape(-1, 7)
    embedder = PixelEmbedder((0, 1), "random", dim=8, standardize=True).fit(raw)
    before = embedder.transform(prediction, pixels)
    assert np.abs(with_fresh_projection(embedder, 1).transform(prediction, pixels) - before).max() > 0.01
    for same in (embedder, with_fresh_projection(embedder, 0)):
        np.testing.assert_allclose(same.transform(prediction, pixels), before, atol=1e-5)
    with pytest.raises(EmbeddingError, match="random"):
        with_fresh_projection(PixelEmbedder(), 1)
    with pytest.raises(EmbeddingError, match="seed"):
        with_fresh_projection(embedder, -1)


def test_fitting_per_image_keeps_the_last_image_of_each_class():
    rng = np.random.default_rng(0)
    x, y, images = rng.normal(size=(400, 3)), np.repeat([0, 4], 200), np.tile(np.arange(4).repeat(50), 2)
    images[y == 4] = np.minimum(images[y == 4], 2)
    flawed = fit_per_image(ClassKMeans(3), x, y, images)
    for c, image in ((0, 3), (4, 2)):
        chosen = (y == c) & (images == image)
        np.testing.assert_allclose(flawed.centers_[c], ClassKMeans(3).fit(x[chosen], y[chosen]).centers_[c])
    for wrong in (images[1:], None):
        with pytest.raises(ClusteringError, match="do not fit"):
            fit_per_image(ClassKMeans(3), x, y, wrong)
    with pytest.raises(ClusteringError, match="do not fit"):
        fit_per_image(ClassKMeans(3), x[1:], y, images)
