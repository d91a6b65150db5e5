"""What the calibrated and the fused rule promise."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_prediction

from iood_helpers.errors import RefinementError
from iood_helpers.method.calibration import Recalibration, log_odds, recalibrate
from iood_helpers.method.distances import Distances
from iood_helpers.method.embedder import PixelEmbedder
from iood_helpers.method.kmeans import ClassKMeans
from iood_helpers.method.refinement import CalibratedRule, FusedRule, novelty_map, refine_confidence


def fit(embedder, images=4, n_clusters=5, calibrate=True):
    """Clusters of random predictions; classes 0, 1, 2, and cells of all classes for the calibrated mode."""
    x, y = [], []
    for seed in range(images):
        prediction = make_prediction(seed)
        pixels = np.argwhere(np.ones(prediction.shape, bool))[::3]
        x.append(embedder.transform(prediction, pixels))
        y.append(np.random.default_rng(seed).integers(0, 19, len(pixels)))
    x, y = np.concatenate(x), np.concatenate(y)
    model = ClassKMeans(n_clusters).fit(x, y)
    return model.calibrate(x, y) if calibrate else model


@pytest.fixture(scope="module")
def embedder():
    return PixelEmbedder((0, 1, 2, 3), "random", dim=12)


@pytest.fixture(scope="module")
def kmeans(embedder):
    return fit(embedder)


def unusual(prediction):
    """The same prediction with features far away in the left half."""
    features = tuple(f.copy() for f in prediction.features)
    for f in features:
        f[:, :, : f.shape[2] // 2] += 8
    return type(prediction)(prediction.classes, prediction.confidence, prediction.logits, features, prediction.decoder)


def test_far_pixels_get_the_full_penalty_and_near_ones_none(prediction, kmeans, embedder):
    before, usual = refine_confidence(prediction, kmeans, embedder, smooth=0, strength=3.0)
    after, mask = refine_confidence(unusual(prediction), kmeans, embedder, smooth=0, strength=3.0)
    left, right = np.s_[:, :12], np.s_[:, 48:]
    penalty = log_odds(prediction.confidence) - log_odds(after)
    np.testing.assert_allclose(penalty[left], 3.0, atol=0.05)
    assert np.abs(after[right] - before[right]).max() < 0.05
    assert mask[left].mean() > 0.95 and (mask[right] == usual[right]).all() and usual.mean() < 0.2


def test_the_penalty_is_for_the_excess_distance_only(prediction, kmeans, embedder):
    novelty = novelty_map(prediction, kmeans, embedder, smooth=0)
    refined, _ = refine_confidence(prediction, kmeans, embedder, smooth=0, strength=2.0, width=0.3)
    odds = prediction.confidence / (1 - prediction.confidence)
    wanted = odds * np.exp(-2.0 * np.tanh(np.maximum(novelty - 1, 0) / 0.3))
    np.testing.assert_allclose(refined, wanted / (1 + wanted), atol=1e-5)
    assert 0.7 < (novelty <= 1).mean() < 1


def test_fused_without_blend_is_calibrated(prediction, kmeans, embedder):
    calibrated, mask = refine_confidence(prediction, kmeans, embedder, strength=1.75)
    fused, same = refine_confidence(prediction, kmeans, embedder, mode="fused", blend=0.0)
    np.testing.assert_allclose(fused, calibrated, atol=1e-6)
    assert (mask != same).mean() < 1e-3


def test_fused_blends_log_odds_of_neighbours(prediction, kmeans, embedder):
    size = prediction.shape
    lonely = np.full(size, 0.9, np.float32)
    lonely[18, 24] = 0.1
    uncertainty = replace(prediction, confidence=lonely)
    options = {"mode": "fused", "strength": 0.0, "sigma": 0.75}
    half, _ = refine_confidence(uncertainty, kmeans, embedder, blend=0.5, **options)
    whole, _ = refine_confidence(uncertainty, kmeans, embedder, blend=1.0, **options)
    assert lonely[18, 24] + 0.1 < half[18, 24] < whole[18, 24] < 0.9  # sure neighbours lift it
    assert half[18, 25] < 0.9 - 0.003 and abs(half[2, 2] - 0.9) < 1e-5  # and it pulls them down, not those far away
    np.testing.assert_allclose(log_odds(whole).mean(), log_odds(lonely).mean(), atol=1e-3)


def test_sigma_counts_cells_whatever_the_size(kmeans, embedder):
    for height in (64, 128):
        seen = make_prediction(size=(height, 96))
        confidence = np.full(seen.shape, 0.5, np.float32)
        confidence[: height // 2] = 0.95
        step = replace(seen, confidence=confidence)
        refined, _ = refine_confidence(step, kmeans, embedder, mode="fused", strength=0, sigma=2.0, blend=1.0)
        # 8 pixels, one standard deviation, beyond the edge of a step: 16 % of it are left.
        beyond = np.interp(height / 2 + 7.5, np.arange(height), log_odds(refined[:, 40]))
        assert beyond == pytest.approx(0.159 * np.log(19), abs=0.05)


def test_where_all_is_unusual_the_ranking_stays(prediction, kmeans, embedder):
    features = tuple(f + 8 for f in prediction.features)
    shifted = type(prediction)(
        prediction.classes, prediction.confidence, prediction.logits, features, prediction.decoder
    )
    refined, _ = refine_confidence(shifted, kmeans, embedder)
    order = np.argsort(prediction.confidence, axis=None)
    assert (np.diff(refined.ravel()[order]) > -1e-3).all() and refined.mean() < prediction.confidence.mean() - 0.2


def test_mask_and_unit_are_the_promised_shares_of_calibration_pixels(embedder):
    def cells(seeds):
        drawn = [make_prediction(seed, size=(96, 128)) for seed in seeds]
        vectors = np.concatenate([embedder.transform_grid(p).reshape(-1, 12) for p in drawn])
        return vectors, np.concatenate([p.logits.argmax(0).ravel() for p in drawn])

    kmeans = ClassKMeans(3).fit(*cells(range(6))).calibrate(*cells(range(10, 16)))
    fresh = [make_prediction(seed, size=(96, 128)) for seed in range(20, 26)]
    for alpha in (0.1, 0.5):
        rate = np.mean([refine_confidence(p, kmeans, embedder, alpha=alpha)[1].mean() for p in fresh])
        assert rate == pytest.approx(alpha, abs=0.4 * alpha)
    near = np.mean([Distances(p, kmeans, embedder).relative(0.6) <= 1 for p in fresh])
    assert near == pytest.approx(0.6, abs=0.05)


def test_ranges_and_strength(prediction, kmeans, embedder):
    weak, _ = refine_confidence(prediction, kmeans, embedder, strength=0.5, smooth=0)
    strong, _ = refine_confidence(prediction, kmeans, embedder, strength=2.0, smooth=0)
    for values in (weak, strong):
        assert values.dtype == np.float32 and values.shape == prediction.shape
        assert np.isfinite(values).all() and values.min() >= 0 and (values <= prediction.confidence + 2e-6).all()
    assert (strong <= weak).all() and (strong < weak).any()


def test_smoothing_calms_the_map(prediction, kmeans, embedder):
    rough, calm = (novelty_map(prediction, kmeans, embedder, smooth=s) for s in (0, 3))
    assert calm.std() < 0.6 * rough.std()


def test_recalibration_is_honest_and_strictly_rising():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=40_000)
    correct = rng.random(40_000) < truth
    humble = truth**3
    curve = Recalibration().fit(humble, correct)
    assert np.abs(curve(humble) - truth).mean() < 0.03 < np.abs(humble - truth).mean()
    levels = curve(np.arange(0, 65536, 7) / 65535)
    assert (np.diff(levels.astype(np.float64)) >= 0).all()
    assert len(np.unique(levels)) > 0.9 * len(levels)
    with pytest.raises(RefinementError, match="right and wrong"):
        Recalibration().fit(truth, np.ones(40_000))


def test_log_odds_keep_every_level_apart():
    levels = log_odds(np.arange(65536) / 65535)
    assert (np.diff(levels) > 0).all() and np.abs(levels).max() < 14
    assert log_odds(0.75) == pytest.approx(np.log(3), abs=1e-5)


def test_recalibration_keeps_the_ranking(prediction, kmeans, embedder):
    rng = np.random.default_rng(0)
    curve = Recalibration().fit(rng.uniform(size=5000), rng.random(5000) < 0.7)
    plain, _ = refine_confidence(prediction, kmeans, embedder)
    honest, _ = refine_confidence(prediction, kmeans, embedder, recalibration=curve)
    order = np.argsort(plain, axis=None)
    assert (np.diff(honest.ravel()[order]) >= -1e-6).all()


def test_rules_are_recalibrated_on_calibration_images(kmeans, embedder):
    shapes = {seed: make_prediction(seed) for seed in range(3)}
    rng, seen = np.random.default_rng(0), []
    void = 255 * (rng.random((37, 50)) < 0.5)
    labels = {s: np.where(rng.random(void.shape) < 0.7, p.classes, void) for s, p in shapes.items()}
    segmenter = SimpleNamespace(predict=lambda seed: seen.append(seed) or shapes[seed])
    samples = [SimpleNamespace(image=lambda s=s: s, label=lambda s=s: labels[s]) for s in shapes]
    rules = {"calibrated": CalibratedRule(smooth=1), "fused": FusedRule(strength=1)}
    found = recalibrate(rules, segmenter, samples, kmeans, embedder, every=3)
    assert seen == [0, 1, 2]  # once for both rules
    for name, rule in rules.items():
        known = {s: labels[s] < 19 for s in shapes}
        lowered = [rule.apply(p, Distances(p, kmeans, embedder))[0][known[s]][::3] for s, p in shapes.items()]
        right = [(p.classes == labels[s])[known[s]][::3] for s, p in shapes.items()]
        curve = Recalibration().fit(np.concatenate(lowered), np.concatenate(right))
        assert replace(found[name], recalibration=None) == rule
        np.testing.assert_array_equal(found[name].recalibration(lowered[0]), curve(lowered[0]))
    again = recalibrate(found, segmenter, samples, kmeans, embedder, every=3)
    assert again["fused"].recalibration.a_ == found["fused"].recalibration.a_  # not a curve on top of a curve
    bare = SimpleNamespace(image=lambda: 0, label=lambda: None, name="street")
    with pytest.raises(RefinementError, match="calibration image street has no label map"):
        recalibrate(rules, segmenter, [bare], kmeans, embedder)


def test_bad_input(prediction, kmeans, embedder):
    with pytest.raises(RefinementError, match="Unknown mode 'soft'"):
        refine_confidence(prediction, kmeans, embedder, mode="soft")
    with pytest.raises(RefinementError, match="no option 'sigma'.*strength"):
        refine_confidence(prediction, kmeans, embedder, sigma=0.5)
    with pytest.raises(RefinementError, match="have 3 numbers, but the clusters were fitted on 12"):
        refine_confidence(prediction, kmeans, PixelEmbedder((0,)))
    with pytest.raises(RefinementError, match="not calibrated"):
        refine_confidence(prediction, fit(embedder, calibrate=False), embedder)
    distances = Distances(prediction, kmeans, embedder)
    for other in ((make_prediction(1), kmeans, embedder), (prediction, kmeans, PixelEmbedder())):
        with pytest.raises(RefinementError, match="another image, clusters or embedder"):
            refine_confidence(*other, distances=distances)
