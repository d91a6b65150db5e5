"""Levels are found by number, by stride and by name, in networks with any maps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_prediction

from iood_helpers.errors import EmbeddingError
from iood_helpers.method.embedder import ALL_LEVELS, PixelEmbedder
from iood_helpers.method.levels import level_map, level_of, offered, stride


def network(strides, decoder=8, size=(64, 96)):
    """Prediction of a network with feature maps at these strides."""
    rng = np.random.default_rng(0)
    some = lambda channels, step: rng.normal(size=(channels, *(-(-n // step) for n in size))).astype(np.float32)
    features = tuple(some(3 + number, step) for number, step in enumerate(strides))
    usual = make_prediction(size=size)
    return replace(usual, features=features, decoder=some(9, decoder), logits=some(19, decoder))


def test_by_number_stride_and_name():
    prediction = network((2, 8, 32))
    wanted = {0: 0, 1: 1, 2: 2, "stride2": 0, "stride8": 1, "stride32": 2}
    for level, number in wanted.items():
        assert level_map(prediction, level) is prediction.features[number], level
    assert level_map(prediction, "decoder") is prediction.decoder
    assert level_map(prediction, "logits") is prediction.logits
    assert offered(prediction) == {0: 2, 1: 8, 2: 32, "decoder": 8, "logits": 8}
    assert tuple(offered(make_prediction())) == ALL_LEVELS


def test_vectors_of_a_stride_are_those_of_its_number():
    prediction = network((2, 8, 32))
    by_stride, by_number = (
        PixelEmbedder((level, "decoder")).transform_grid(prediction) for level in ("stride8", np.int64(1))
    )
    np.testing.assert_array_equal(by_stride, by_number)
    assert by_stride.shape == (8, 12, 4 + 9)  # on the grid of the logits, at stride 8
    assert PixelEmbedder(("stride8", "decoder")).widths(prediction) == {"stride8": 4, "decoder": 9}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(192, 384), (360, 480), (720, 1280), (270, 471), (1024, 2048), (41, 97)])
def test_strides_of_networks_that_round_up_or_resize(steps, size):
    up = [math.ceil(n / 2**steps) for n in size]
    enlarged = [math.ceil(n / 32) * 32 // 2**steps for n in size]
    assert stride(up, size) == stride(enlarged, size) == 2**steps


@pytest.mark.parametrize("size", [(360, 480), (721, 1281), (270, 471)])
def test_strides_of_networks_that_round_down(size):
    for steps in (1, 2, 3):
        assert stride([n // 2**steps for n in size], size) == 2**steps


@pytest.mark.parametrize("level", [3, "stride4", "stride16"])
def test_what_is_missing_is_named_beside_what_is_there(level):
    with pytest.raises(
        EmbeddingError,
        match=f"no level {level}: this model offers levels 0, 1, 2, decoder, logits at strides 2, 8, 32, 8, 8;",
    ):
        PixelEmbedder((0, level)).transform(network((2, 8, 32)), [[0, 0]])


def test_a_stride_of_several_maps_is_ambiguous():
    dilated = network((4, 8, 8, 8))
    with pytest.raises(EmbeddingError, match="Levels 1, 2, 3 all have stride8: .* at strides 4, 8, 8, 8"):
        PixelEmbedder(("stride8",)).transform(dilated, [[0, 0]])
    assert PixelEmbedder(("stride4", 3)).transform(dilated, [[0, 0]]).shape == (1, 3 + 6)


def test_a_network_of_six_maps():
    prediction = network((1, 2, 4, 8, 16, 32))
    assert PixelEmbedder((5,)).transform_grid(prediction).shape == (8, 12, 8)


@pytest.mark.parametrize(
    "level", [-1, 100, 1.0, True, None, "0", "", "stride", "stride0", "stride08", "stride8 ", "stride99999", "classes"]
)
def test_what_can_be_no_level(level):
    with pytest.raises(EmbeddingError, match="are not understood; choose from 0"):
        PixelEmbedder((0, level))


@pytest.mark.parametrize("text", ["00", "007", "100", "-1", "٣", "projected", "confidence", "features", 0, None, ["0"]])
def test_names_in_files_that_are_no_levels(text):
    assert level_of(text) is None
