"""Sampling and projecting single pixels gives what the plain way gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_prediction

from iood_helpers.embeddings import PixelEmbedder, grid_pixels
from iood_helpers.errors import EmbeddingError


def plain(prediction, levels=(0, 1, 2, 3)):
    """All levels enlarged to the image's size and concatenated, (C, H, W)."""
    maps = [prediction.decoder if level == "decoder" else prediction.features[level] for level in levels]
    return torch.cat(
        [
            F.interpolate(torch.from_numpy(m)[None], prediction.size, mode="bilinear", align_corners=False)[0]
            for m in maps
        ]
    )


@pytest.mark.parametrize("size", [(37, 50), (64, 64), (33, 97)])
@pytest.mark.parametrize("levels", [(0, 1, 2, 3), (1,), (3, "decoder")])
def test_equals_enlarging_and_indexing(size, levels):
    prediction = make_prediction(size=size)
    everywhere = np.argwhere(np.ones(size, bool))
    got = PixelEmbedder(levels).transform(prediction, everywhere)
    wanted = plain(prediction, levels).flatten(1).T.numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [5, 1500])  # few pixels: sample first; many: project first
def test_random_projection_equals_the_convolution(prediction, count):
    pixels = np.random.default_rng(1).integers(0, prediction.size, (count, 2))
    torch.manual_seed(3)
    convolution = torch.nn.Conv2d(18, 16, 1)
    with torch.no_grad():
        wanted = convolution(plain(prediction)[None])[0][:, pixels[:, 0], pixels[:, 1]].T.numpy()
    got = PixelEmbedder(projection="random", dim=16, seed=3).transform(prediction, pixels)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_random_projection_leaves_the_global_generator_alone(prediction):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    PixelEmbedder(projection="random", dim=4).transform(prediction, [[0, 0]])
    assert torch.equal(torch.rand(3), wanted)


def test_a_fresh_projection_is_another_one(prediction):
    pixels = np.array([[3, 4], [20, 30]])
    embedder = PixelEmbedder(projection="random", dim=8)
    a, b = embedder.transform(prediction, pixels), embedder.reinitialised(1).transform(prediction, pixels)
    assert np.abs(a - b).max() > 0.01
    np.testing.assert_array_equal(embedder.transform(prediction, pixels), a)
    np.testing.assert_array_equal(embedder.reinitialised(0).transform(prediction, pixels), a)
    with pytest.raises(EmbeddingError, match="random"):
        PixelEmbedder().reinitialised(1)


def test_grid_is_the_map_itself_where_cells_and_map_agree():
    prediction = make_prediction(size=(64, 96))
    grid = PixelEmbedder((0,)).transform_grid(prediction)
    np.testing.assert_allclose(grid, prediction.features[0].transpose(1, 2, 0), atol=1e-5)
    np.testing.assert_allclose(grid_pixels((16, 24), (64, 96))[0], (1.5, 1.5))


@pytest.mark.parametrize("count", [4, 1500])
@pytest.mark.parametrize("projection", [None, "pca"])
def test_standardisation_and_pca_follow_the_sample(prediction, projection, count):
    everywhere = np.argwhere(np.ones(prediction.size, bool))
    raw = PixelEmbedder((0, 1)).transform(prediction, everywhere) * 5 + 2
    embedder = PixelEmbedder((0, 1), projection, dim=3 if projection else None, standardize=True).fit(raw)
    pixels = everywhere[:: len(everywhere) // count][:count]
    wanted = (PixelEmbedder((0, 1)).transform(prediction, pixels) - raw.mean(0)) / raw.std(0)
    if projection:
        standard = (raw - raw.mean(0)) / raw.std(0)
        wanted = (wanted - standard.mean(0)) @ embedder.weight_.T
    np.testing.assert_allclose(embedder.transform(prediction, pixels), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("projection", [None, "random", "pca"])
def test_applying_to_raw_vectors_equals_transforming(prediction, projection):
    pixels = np.random.default_rng(0).integers(0, prediction.size, (300, 2))
    embedder = PixelEmbedder((0, "decoder"), projection, dim=3 if projection else None, standardize=True)
    raw = embedder.raw.transform(prediction, pixels)
    embedder.fit(raw)
    np.testing.assert_allclose(embedder.apply(raw), embedder.transform(prediction, pixels), rtol=1e-3, atol=1e-4)


def test_saved_and_loaded_is_the_same(prediction, tmp_path):
    pixels = np.array([[1, 2], [30, 40]])
    embedder = PixelEmbedder((0, "decoder"), "random", dim=5, seed=2)
    wanted = embedder.transform(prediction, pixels)
    other = PixelEmbedder.load(embedder.save(tmp_path / "embedder.safetensors"))
    assert other.parameters == embedder.parameters
    np.testing.assert_array_equal(other.transform(prediction, pixels), wanted)
    (tmp_path / "embedder.safetensors").write_bytes(b"nothing")
    with pytest.raises(EmbeddingError, match=r"embedder\.safetensors is not a saved PixelEmbedder"):
        PixelEmbedder.load(tmp_path / "embedder.safetensors")


def test_bad_input(prediction):
    with pytest.raises(EmbeddingError, match="Levels"):
        PixelEmbedder((4,))
    with pytest.raises(EmbeddingError, match="Unknown projection"):
        PixelEmbedder(projection="umap")
    with pytest.raises(EmbeddingError, match="outside the image of 37 x 50"):
        PixelEmbedder().transform(prediction, [[37, 0]])
    with pytest.raises(EmbeddingError, match="call fit"):
        PixelEmbedder(standardize=True).transform(prediction, [[0, 0]])
    with pytest.raises(EmbeddingError, match="NaN"):
        PixelEmbedder(standardize=True).fit(np.full((3, 3), np.nan))
    prediction.features[2][0, 0, 0] = np.nan
    with pytest.raises(EmbeddingError, match="level 2"):
        PixelEmbedder().transform(prediction, [[0, 0]])
