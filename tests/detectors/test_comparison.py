"""Detectors side by side give what each gives alone, and their costs add up."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_prediction

from iood_helpers.detectors import (
    Comparison,
    Energy,
    Ensemble,
    FeatureBank,
    KMeansDistance,
    MaxSoftmax,
    as_confidence,
    comparison,
    moments,
    smoothed,
)
from iood_helpers.errors import RefinementError
from iood_helpers.method.distances import upsample
from iood_helpers.method.embedder import PixelEmbedder

SIZE = (64, 96)


class Counted(Energy):
    """Counts what it is asked."""

    fits = scores = 0

    def fit(self, bank):
        self.fits += 1
        return super().fit(bank)

    def score(self, prediction):
        self.scores += 1
        return super().score(prediction)


@pytest.fixture
def bank():
    prediction, embedder = make_prediction(0, size=SIZE), PixelEmbedder((0, 1))
    vectors, classes = embedder.transform_grid(prediction).reshape(-1, 7), prediction.logits.argmax(0).ravel()
    empty = np.zeros((0, 0))
    return FeatureBank(embedder, vectors, classes, empty, empty, vectors, classes)


@pytest.fixture
def compared(bank):
    shared, kmeans = Counted(), KMeansDistance(3)
    sums = {"sum": Ensemble(shared, kmeans), "twice": Ensemble(shared, shared)}
    detectors = {**sums, "shared": shared, "KMeans": kmeans, "max soft-max": MaxSoftmax()}
    return Comparison(detectors).fit(bank, (make_prediction(seed, size=SIZE) for seed in (1, 2)))


def test_each_gives_what_it_gives_alone(compared):
    detectors, prediction = compared.detectors, make_prediction(3, size=SIZE)
    maps = compared.score(prediction)
    assert list(maps) == list(detectors)
    for name, one in detectors.items():
        np.testing.assert_array_equal(maps[name], one.score(prediction), err_msg=name)
        images = [one.score(make_prediction(seed, size=SIZE)) for seed in (1, 2)]
        assert compared.moments_[name] == pytest.approx(moments(images), rel=1e-6)


def test_what_ensembles_share_is_computed_once(compared):
    shared = compared.detectors["shared"]
    assert (shared.fits, shared.scores) == (1, 2)  # two calibration images
    compared.score(make_prediction(3, size=SIZE))
    assert shared.scores == 3


def test_confidences_come_plain_and_averaged(compared):
    prediction = make_prediction(3, size=SIZE)
    maps = compared.score(prediction)
    found = dict(compared.confidences(prediction, 0, 2.5))
    assert list(found) == [(name, sigma) for name in compared.detectors for sigma in (0, 2.5)]
    for name, cells in maps.items():
        for sigma, values in ((0, cells), (2.5, smoothed(cells, 2.5))):
            wanted = as_confidence(upsample(values, SIZE), *compared.moments_[name])
            np.testing.assert_array_equal(found[name, sigma], wanted, err_msg=name)


def test_costs_add_up(bank, monkeypatch):
    ticks = count()
    monkeypatch.setattr(
        comparison, "time", SimpleNamespace(perf_counter=lambda: next(ticks))
    )  # each look takes a second
    energy, kmeans = Energy(), KMeansDistance(3)
    detectors = {"energy": energy, "KMeans": kmeans, "sum": Ensemble(energy, kmeans, energy)}
    compared = Comparison(detectors).fit(bank, [make_prediction(1, size=SIZE)])
    assert compared.costs["energy"] == {"fit": 1, "image": 0, "bytes": 0}
    for seed in range(3):
        compared.score(make_prediction(seed, size=SIZE))
    kept = compared.costs["KMeans"]["bytes"]
    assert kept > 0 and compared.costs["KMeans"] == {"fit": 1, "image": 1, "bytes": kept}
    assert compared.costs["sum"] == {"fit": 3, "image": 3, "bytes": kept}


def test_an_ensemble_of_others_is_refused():
    with pytest.raises(RefinementError, match="does not take part"):
        Comparison({"energy": Energy(), "sum": Ensemble(Energy(), MaxSoftmax())})
