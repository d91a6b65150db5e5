"""Old names work for one version, and say what they are called now."""

from __future__ import annotations

import importlib

import pytest
from conftest import make_prediction

from iood_helpers import errors

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
