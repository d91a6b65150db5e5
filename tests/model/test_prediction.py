"""Arrays of another framework are as good as the segmenter's own prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import iood_helpers
from iood_helpers import Prediction, load_dataset, load_segmenter
from iood_helpers.errors import ParameterError


def test_maps_of_the_segmenter_give_its_prediction():
    wanted = load_segmenter("nano", device="cpu").predict(load_dataset("mini/val")[0].image())
    found = Prediction.from_arrays(wanted.features, wanted.logits, wanted.shape, decoder=wanted.decoder)
    assert (found.classes == wanted.classes).mean() > 0.9999 and found.classes.dtype == np.uint8
    np.testing.assert_allclose(found.confidence, wanted.confidence, atol=1e-5)
    for one, other in zip((*found.features, found.decoder), (*wanted.features, wanted.decoder), strict=True):
        np.testing.assert_array_equal(one, other)  # the same numbers, passed on


def test_one_map_is_what_the_classifier_sees():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(5, 8, 9)), torch.from_numpy(rng.normal(size=(3, 8, 9)))
    found = Prediction.from_arrays(features, logits, (30, 34))
    assert found.shape == (30, 34) and len(found.features) == 1 and found.classes.max() == 2
    np.testing.assert_array_equal(found.decoder, found.features[0])
    assert found.decoder.dtype == found.logits.dtype == found.confidence.dtype == np.float32
    assert found.confidence.min() > 1 / 3


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"features": np.ones((2, 3))}, r"Features are maps \(C, h, w\) of numbers, not \(2, 3\)"),
        ({"features": []}, "no features"),
        ({"features": [np.ones((1, 2, 2)), "map"]}, "Features are maps"),
        ({"logits": np.full((19, 2, 2), np.nan)}, "Logits hold NaN"),
        ({"logits": np.full((19, 2, 2), 1e300)}, "Logits hold NaN or infinite"),
        ({"logits": np.ones((1, 2, 2))}, "2 to 255 classes, not 1"),
        ({"logits": np.ones((512, 2, 2))}, "2 to 255 classes, not 512"),
        ({"shape": (0, 4)}, "height, width"),
        ({"shape": (4, 4, 3)}, "height, width"),
        ({"decoder": np.ones((1, 2, 0))}, "decoder's features are maps"),
    ],
)
def test_arrays_that_are_no_maps_are_refused(changes, match):
    given = {"features": np.ones((4, 2, 2)), "logits": np.ones((19, 2, 2)), "shape": (8, 8)} | changes
    with pytest.raises(ParameterError, match=match):
        Prediction.from_arrays(**given)


def test_the_name_is_the_same_wherever_it_is_imported_from():
    assert iood_helpers.Prediction is iood_helpers.model.segmenter.Prediction is Prediction
