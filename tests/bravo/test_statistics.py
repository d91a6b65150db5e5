"""Bootstrap over images, and ranks."""

from __future__ import annotations

import numpy as np
import pytest

from iood_helpers.bravo.accumulator import BravoAccumulator
from iood_helpers.bravo.protocol import OOD_METRICS, SEMANTIC_METRICS
from iood_helpers.bravo.statistics import mean_ranks, resampled_metrics
from iood_helpers.errors import MetricsError


def accumulator(seed: int, shape: tuple[int, int] = (64, 96), difficulty: float = 0.5) -> BravoAccumulator:
    """One random image; images differ in how often the prediction is wrong."""
    rng = np.random.default_rng(seed)
    share = 0.7 + 0.2 * rng.random() * difficulty
    gt = rng.integers(0, 19, shape)
    classes = np.where(rng.random(shape) < share, gt, rng.integers(0, 19, shape))
    invalid = rng.random(shape) < 0.05 + 0.1 * rng.random()
    confidence = rng.beta(6, 1, shape) - 0.2 * (classes != gt) - 0.2 * invalid
    return BravoAccumulator().update(gt, invalid, classes, confidence.clip(0, 1))


@pytest.fixture(scope="module")
def accumulators():
    return [accumulator(seed) for seed in range(12)]


def test_draws_lie_around_the_value_of_all_images(accumulators):
    drawn = resampled_metrics(accumulators, draws=200, ood=True)
    exact = BravoAccumulator.total(accumulators).compute(ood=True)
    assert set(drawn) == {*SEMANTIC_METRICS, *OOD_METRICS}
    for key, values in drawn.items():
        low, high = np.percentile(values, (2.5, 97.5))
        assert low < exact[key] < high, key


def test_resampled_values_equal_those_of_merged_accumulators(accumulators):
    images, seed = len(accumulators), 5
    drawn = resampled_metrics(accumulators, draws=1, seed=seed, ood=True)
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=1)[0]
    chosen = [one for one, times in zip(accumulators, weights, strict=True) for _ in range(times)]
    expected = BravoAccumulator.total(chosen).compute(ood=True)
    for key, values in drawn.items():
        tolerance = 1e-12 if key in ("miou_valid", "ece_valid") else 1e-3
        assert values.item() == pytest.approx(expected[key], abs=tolerance), key


def test_equal_images_leave_no_uncertainty():
    images = [accumulator(0)] * 5
    exact = BravoAccumulator.total(images).compute(ood=True)
    for key, values in resampled_metrics(images, draws=20, ood=True).items():
        assert np.ptp(values) < 1e-12, key
        assert values[0] == pytest.approx(exact[key], abs=1e-3)


def test_more_images_narrow_the_draws(accumulators):
    many = [accumulator(seed) for seed in range(60)]
    few, narrow = (resampled_metrics(images, draws=400)["miou_valid"].std() for images in (accumulators, many))
    assert narrow < 0.7 * few


def test_draws_without_invalid_pixels_are_not_defined():
    shape = (40, 40)
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 19, shape)
    classes = np.where(rng.random(shape) < 0.8, gt, 0)
    invalid = rng.random(shape) < 0.2
    images = [BravoAccumulator().update(gt, mask, classes, rng.random(shape)) for mask in (invalid, None, None)]
    values = resampled_metrics(images, draws=100, semantic=False, ood=True)["auroc_ood"]
    assert 0.2 < np.isnan(values).mean() < 0.4  # (2 / 3) ** 3 of the draws leave the first image out
    assert 0 < np.nanmin(values) <= np.nanmax(values) < 1


def test_what_is_refused(accumulators):
    for arguments in ({"accumulators": accumulators[:1]}, {"accumulators": accumulators, "draws": 0}):
        with pytest.raises(MetricsError, match="bootstrap"):
            resampled_metrics(**arguments)
    with pytest.raises(MetricsError, match="not defined"):
        resampled_metrics([BravoAccumulator("SMIYC"), BravoAccumulator("SMIYC")], ood=True)


def test_the_same_images_are_drawn_for_every_model(accumulators):
    a, b = (resampled_metrics(accumulators, draws=20, seed=3) for _ in range(2))
    c = resampled_metrics(accumulators, draws=20, seed=4)
    np.testing.assert_array_equal(a["miou_valid"], b["miou_valid"])
    assert not np.array_equal(a["miou_valid"], c["miou_valid"])


def test_mean_ranks_are_those_of_the_textbook():
    # Demsar 2006, section 3.2.4: four methods on 14 sets of data have a critical difference of 1.25.
    values = np.random.default_rng(0).random((14, 4))
    ranks, difference = mean_ranks(values)
    assert difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert ranks.sum() == pytest.approx(10)
    by_hand = np.argsort(-values, axis=1).argsort(axis=1).mean(axis=0) + 1
    np.testing.assert_allclose(ranks, by_hand)
    tied, _ = mean_ranks(np.array([[0.5, 0.5, 0.1], [0.7, 0.7, 0.9]]))
    np.testing.assert_allclose(tied, [(1.5 + 2.5) / 2, (1.5 + 2.5) / 2, 2.0])
    with pytest.raises(MetricsError, match="no NaN"):
        mean_ranks(np.array([[0.5, np.nan], [0.1, 0.2]]))
