"""Sampling and projecting single pixels gives what the plain way gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_prediction
from safetensors.numpy import save_file

from iood_helpers.errors import EmbeddingError
from iood_helpers.method.embedder import PixelEmbedder, grid_pixels


def plain(prediction, levels=(0, 1, 2, 3)):
    """All levels enlarged to the image's size and concatenated, (C, H, W)."""
    maps = [prediction.decoder if level == "decoder" else prediction.features[level] for level in levels]
    return torch.cat(
        [
            F.interpolate(torch.from_numpy(m)[None], prediction.shape, mode="bilinear", align_corners=False)[0]
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
    pixels = np.random.default_rng(1).integers(0, prediction.shape, (count, 2))
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


def test_nothing_but_fit_changes_an_embedder(prediction, tmp_path):
    def state():
        return [embedder.weight_ is None, embedder.save(tmp_path / "e.safetensors").read_bytes()]

    embedder = PixelEmbedder((0, 1), "random", dim=4)
    before, wide = state(), make_prediction(widths=(8, 4, 5, 6))
    vectors = embedder.transform(prediction, [[0, 0]])
    embedder.transform(wide, [[0, 0]])  # so the width of features leaves no trace
    raw = embedder.raw.transform(prediction, [[0, 0], [3, 4]])
    np.testing.assert_allclose(embedder.apply(raw)[:1], vectors, rtol=1e-5, atol=1e-6)
    assert state() == before == [True, before[1]]
    embedder.fit(raw)
    np.testing.assert_allclose(embedder.transform(prediction, [[0, 0]]), vectors, rtol=1e-5, atol=1e-6)
    with pytest.raises(EmbeddingError, match="knows vectors of 7 numbers, not 12"):
        embedder.transform(wide, [[0, 0]])
    assert PixelEmbedder.load(embedder.save(tmp_path / "e.safetensors")).weight_.shape == (4, 7)


def test_grid_is_the_map_itself_where_cells_and_map_agree():
    prediction = make_prediction(size=(64, 96))
    grid = PixelEmbedder((0,)).transform_grid(prediction)
    np.testing.assert_allclose(grid, prediction.features[0].transpose(1, 2, 0), atol=1e-5)
    np.testing.assert_allclose(grid_pixels((16, 24), (64, 96))[0], (1.5, 1.5))


@pytest.mark.parametrize("count", [4, 1500])
@pytest.mark.parametrize("projection", [None, "pca"])
def test_standardisation_and_pca_follow_the_sample(prediction, projection, count):
    everywhere = np.argwhere(np.ones(prediction.shape, bool))
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
    pixels = np.random.default_rng(0).integers(0, prediction.shape, (300, 2))
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
    np.testing.assert_allclose(other.transform(prediction, pixels), wanted, rtol=1e-5, atol=1e-6)
    (tmp_path / "embedder.safetensors").write_bytes(b"nothing")
    with pytest.raises(EmbeddingError, match=r"embedder\.safetensors is not a saved PixelEmbedder"):
        PixelEmbedder.load(tmp_path / "embedder.safetensors")


def test_bad_input(prediction):
    with pytest.raises(EmbeddingError, match="Levels"):
        PixelEmbedder((100,))
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


@pytest.mark.parametrize(
    "options",
    [
        {"levels": ()},
        {"levels": 3},
        {"levels": (True,)},
        {"levels": (0, 0)},
        {"levels": (-1,)},
        {"levels": (1.0,)},
        {"levels": ([0],)},
        {"levels": "decoder"},
        {"projection": "pca", "dim": 0},
        {"projection": "random", "dim": -3},
        {"projection": "random", "dim": 2.5},
        {"projection": "random", "dim": 10**9},
        {"dim": 5},
        {"seed": -1},
        {"seed": "0"},
        {"seed": 1.0},
        {"seed": None},
        {"standardize": "yes"},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(EmbeddingError):
        PixelEmbedder(**options)


def test_numbers_of_numpy_are_numbers(prediction, tmp_path):
    pixels = np.array([[1, 2], [30, 40]], np.uint8)
    mine = PixelEmbedder(np.arange(2), "random", dim=np.int64(4), seed=np.uint8(3), standardize=np.bool_(False))
    plain_numbers = PixelEmbedder((0, 1), "random", dim=4, seed=3)
    assert mine.parameters == plain_numbers.parameters
    wanted = plain_numbers.transform(prediction, pixels)
    np.testing.assert_allclose(mine.transform(prediction, pixels), wanted, rtol=1e-5, atol=1e-6)
    assert PixelEmbedder.load(mine.save(tmp_path / "e.safetensors")).parameters == mine.parameters


@pytest.mark.parametrize("kind", [np.float16, np.float64])
@pytest.mark.parametrize("projection", [None, "random"])
def test_maps_of_other_precision(prediction, kind, projection):
    embedder = PixelEmbedder((0, "logits"), projection, dim=5 if projection else None)
    rounded = replace(
        prediction,
        features=tuple(f.astype(np.float16).astype(kind) for f in prediction.features),
        logits=prediction.logits.astype(np.float16).astype(kind),
    )
    single = replace(
        rounded,
        features=tuple(f.astype(np.float32) for f in rounded.features),
        logits=rounded.logits.astype(np.float32),
    )
    got, wanted = embedder.transform_grid(rounded), embedder.transform_grid(single)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "pixels",
    [
        [[0, np.nan]],
        [[np.inf, 0]],
        [[-1, 0]],
        [[36.6, 0]],
        [[0, 50]],
        [0, 1],
        [[0, 1, 2]],
        np.zeros((2, 6)),
        [["0", "1"]],
        [[True, False]],
    ],
)
def test_pixels_that_are_none_of_the_image(prediction, pixels):
    for transform in (
        lambda: PixelEmbedder().transform(prediction, pixels),
        lambda: list(PixelEmbedder().batches(prediction, pixels)),
    ):
        with pytest.raises(EmbeddingError, match="ixels"):
            transform()


def test_no_pixels_give_no_vectors(prediction):
    assert PixelEmbedder((0, 1)).transform(prediction, []).shape == (0, 7)


def test_vectors_that_do_not_fit(prediction):
    raw = PixelEmbedder((0, 1)).transform_grid(prediction).reshape(-1, 7)
    fitted = PixelEmbedder((0, 1), "pca", dim=3, standardize=True).fit(raw)
    wrong = {"know": raw[:, :5], "not .7,.": raw[0], "NaN": raw * np.nan, "infinite": raw.astype(float) * 1e300}
    for match, vectors in wrong.items():
        with pytest.raises(EmbeddingError, match=match):
            fitted.apply(vectors)
    with pytest.raises(EmbeddingError, match="know"):
        fitted.transform(make_prediction(widths=(3, 5, 5, 6)), [[0, 0]])
    with pytest.raises(EmbeddingError, match="no level 3"):
        PixelEmbedder((3,)).transform(replace(prediction, features=prediction.features[:2]), [[0, 0]])
    with pytest.raises(EmbeddingError, match="no vectors"):
        fitted.fit(raw[:0])
    with pytest.raises(EmbeddingError, match="level 0"):
        PixelEmbedder().transform(replace(prediction, features=(prediction.features[0].astype(float) * 1e60,) * 4), [])


def test_the_same_embedder_gives_the_same_bytes(prediction, tmp_path):
    embedder = PixelEmbedder((0, 1), "pca", dim=3, standardize=True)
    embedder.fit(PixelEmbedder((0, 1)).transform_grid(prediction).reshape(-1, 7))
    once = [embedder.save(tmp_path / f"{i}.safetensors").read_bytes() for i in range(8)]
    assert len(set(once)) == 1
    loaded = PixelEmbedder.load(tmp_path / "0.safetensors")
    assert loaded.save(tmp_path / "again.safetensors").read_bytes() == once[0]
    assert (
        PixelEmbedder.load(PixelEmbedder().save(tmp_path / "bare.safetensors")).parameters == PixelEmbedder().parameters
    )


GOOD = {"levels": [0], "projection": "pca", "dim": 2, "standardize": True, "seed": 0}
ARRAYS = {
    "mean_": np.zeros(4, np.float32),
    "scale_": np.ones(4, np.float32),
    "weight_": np.ones((2, 4), np.float32),
    "bias_": np.ones(2, np.float32),
}


def saved(path, arrays=None, kind="PixelEmbedder", parameters=GOOD):
    arrays = {k: v for k, v in {**ARRAYS, **(arrays or {})}.items() if v is not None}
    text = parameters if isinstance(parameters, str) else json.dumps(parameters)
    save_file(arrays, path, metadata={"kind": kind, "parameters": text})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "ClassKMeans"},
        *({"parameters": text} for text in ("[]", "null", "3", "{", "[" * 9999, "{}")),
        {"parameters": {**GOOD, "x": 1}},
        {"parameters": {**GOOD, "dim": 3}},
        {"parameters": {**GOOD, "dim": "2"}},
        {"parameters": {**GOOD, "seed": -1}},
        {"parameters": {**GOOD, "levels": [100]}},
        {"parameters": {**GOOD, "levels": None}},
        {"parameters": {**GOOD, "standardize": 1}},
        {"parameters": {**GOOD, "standardize": False}},
        {"parameters": {**GOOD, "projection": None, "dim": None}},
        *(
            {"arrays": arrays}
            for arrays in (
                {"transform": np.zeros(4, np.float32)},
                {"mean_": None},
                {"scale_": None},
                {"weight_": None},
                {"bias_": None},
                {"mean_": np.zeros(3, np.float32)},
                {"mean_": np.zeros((4, 1), np.float32)},
                {"mean_": np.full(4, np.nan, np.float32)},
                {"mean_": np.zeros(4, np.int32)},
                {"scale_": np.array([1, 1, 0, 1], np.float32)},
                {"scale_": np.full(4, -1, np.float32)},
                {"scale_": np.full(4, np.inf, np.float32)},
                {"scale_": np.full(4, 1e-45, np.float32)},
                {"weight_": np.full((2, 4), 3e38, np.float32)},
                {"weight_": np.ones((2, 5), np.float32)},
                {"weight_": np.ones((0, 4), np.float32)},
                {"bias_": np.ones(3, np.float32)},
            )
        ),
    ],
)
def test_files_that_are_not_those_of_an_embedder(tmp_path, changes):
    PixelEmbedder.load(saved(tmp_path / "e.safetensors"))
    with pytest.raises(EmbeddingError, match=r"e\.safetensors is not a saved PixelEmbedder"):
        PixelEmbedder.load(saved(tmp_path / "e.safetensors", **changes))
