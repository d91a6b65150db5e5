"""Old names work for one version, and say what they are called now."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from conftest import make_prediction

from iood_helpers import ClassKMeans, EmbeddingStore, PixelEmbedder, errors, refine_confidence

OLD = {
    "iood_helpers.course.plots": {
        "class_colour": "class_color",
        "class_picture": "colorize_classes",
        "rank_line": "critical_difference",
        "value_picture": "colorize_values",
    },
    "iood_helpers.detectors": {
        "Bank": "FeatureBank",
        "NearestNeighbour": "NearestNeighbor",
        "NearestNeighbourGuidance": "NearestNeighborGuidance",
        "Score": "Detector",
        "Sum": "Ensemble",
    },
    "iood_helpers.method.distances": {"enlarge": "upsample"},
    "iood_helpers.method.refinement": {"enlarge": "upsample"},
}


@pytest.mark.parametrize("module, old, new", [(m, old, new) for m, names in OLD.items() for old, new in names.items()])
def test_old_names_are_the_new_ones(module, old, new):
    module = importlib.import_module(module)
    with pytest.warns(FutureWarning, match=f"{old} is now called {new}"):
        assert getattr(module, old) is getattr(module, new)


def test_unknown_names_stay_unknown():
    module = importlib.import_module("iood_helpers.detectors")
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = module.Nothing


def test_old_attributes():
    prediction = make_prediction()
    with pytest.warns(FutureWarning, match=r"Prediction\.size is now called shape"):
        assert prediction.size == prediction.shape
    assert errors.NotebookFailed is errors.NotebookError


@pytest.mark.parametrize(
    "mode, old, new",
    [("published", "gate", "confidence_threshold"), ("fused", "neighbours", "blend"), ("fused", "reach", "sigma")],
)
def test_old_options(mode, old, new):
    prediction, embedder = make_prediction(), PixelEmbedder((0,))
    x = embedder.transform_grid(prediction).reshape(-1, 3)
    kmeans = ClassKMeans(2, n_init=1).fit(x, np.arange(len(x)) % 19).calibrate(x, np.arange(len(x)) % 19)
    wanted = refine_confidence(prediction, kmeans, embedder, mode=mode, **{new: 0.9})
    with pytest.warns(FutureWarning, match=f"The option {old} is now called {new}"):
        found = refine_confidence(prediction, kmeans, embedder, mode=mode, **{old: 0.9})
    np.testing.assert_array_equal(found, wanted)
    usual = refine_confidence(prediction, kmeans, embedder, mode=mode)
    assert not np.array_equal(usual[0], wanted[0])


def test_old_methods(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(60, 3)), np.zeros(60, int)
    model = ClassKMeans(2, n_init=1).fit(x, y).calibrate(x, y)
    with pytest.warns(FutureWarning, match="held_out_quantile is now called calibration_quantile"):
        assert model.held_out_quantile([0], 0.5) == model.calibration_quantile([0], 0.5)
    with pytest.warns(FutureWarning, match="spreads_ is now called scales_"):
        assert model.spreads_[0] == pytest.approx([model.scales_[0]] * 2)
    with pytest.warns(FutureWarning, match="reinitialised is now called .*with_fresh_projection"):
        assert PixelEmbedder((0,), "random", dim=2).reinitialised(3).parameters["seed"] == 3
    with pytest.warns(FutureWarning, match="create is now called open_or_create"):
        EmbeddingStore.create(tmp_path / "store", dim=3, parameters={}).close()
    assert (tmp_path / "store" / "progress.json").is_file()
