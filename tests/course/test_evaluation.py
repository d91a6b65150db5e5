"""Rules side by side: the same numbers as each alone, and the predictions on disk."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_prediction
from sklearn.metrics import roc_auc_score

from iood_helpers import ClassKMeans, PixelEmbedder, load_dataset, refine_confidence
from iood_helpers.bravo.accumulator import BravoAccumulator
from iood_helpers.bravo.statistics import resampled_metrics
from iood_helpers.bravo.submission import read_prediction
from iood_helpers.course.evaluation import count_maps, evaluate_maps, evaluate_rules, mean_metrics
from iood_helpers.errors import MetricsError
from iood_helpers.method.distances import Distances, upsample
from iood_helpers.method.refinement import FusedRule, PublishedRule
from iood_helpers.method.statistics import DistanceStatistics


def test_rules_side_by_side(tmp_path):
    samples = load_dataset("mini/synobjs", limit=2)
    predictions = iter([make_prediction(seed, sample.invalid().shape) for seed, sample in enumerate(samples)])
    embedder, shown = PixelEmbedder((0, 1)), []
    segmenter = SimpleNamespace(predict=lambda image: shown.append(next(predictions)) or shown[-1])
    vectors = np.random.default_rng(0).normal(size=(600, 7)).astype(np.float32)
    kmeans = ClassKMeans(3).fit(vectors, np.arange(600) % 19).calibrate(vectors, np.arange(600) % 19)
    rules = {"raw": None, "published": PublishedRule(factor=0.8), "fused": FusedRule(alpha=0.3)}
    counts, flagged, _ = evaluate_rules(rules, "mini/synobjs", segmenter, kmeans, embedder, limit=2, tree=tmp_path)
    assert len(shown) == 2 and np.isnan(flagged["raw"])
    for name, options in {"raw": None, "published": {"factor": 0.8}, "fused": {"alpha": 0.3}}.items():
        wanted, shares = BravoAccumulator(), []
        for sample, prediction in zip(samples, shown, strict=True):
            values, mask = prediction.confidence, np.zeros(prediction.shape, bool)
            if options:
                values, mask = refine_confidence(prediction, kmeans, embedder, mode=name, **options)
            wanted.update(sample.label(), sample.invalid(), prediction.classes, values)
            shares.append(mask[~sample.invalid()].mean())
            classes, levels = read_prediction(tmp_path / name, "mini/synobjs", sample.name)
            np.testing.assert_array_equal(classes, prediction.classes)
            np.testing.assert_allclose(levels / 65535, values, atol=1e-5)
        for key in ("correct", "wrong", "invalid"):
            np.testing.assert_array_equal(getattr(counts[name], key), getattr(wanted, key))
        assert name == "raw" or 0 < flagged[name] == pytest.approx(np.mean(shares))


def test_unknown_objects_are_scored_by_confidence_and_by_distance():
    samples = load_dataset("mini/synobjs", limit=2)
    predictions = [make_prediction(seed, sample.invalid().shape) for seed, sample in enumerate(samples)]
    one_by_one = iter(predictions)
    segmenter = SimpleNamespace(predict=lambda image: next(one_by_one))
    embedder, rng = PixelEmbedder((0, 1)), np.random.default_rng(0)
    kmeans = ClassKMeans(2, n_init=1, n_shared=9).fit(rng.normal(size=(600, 7)).astype(np.float32), np.arange(600) % 19)
    kmeans.statistics_ = DistanceStatistics(2.0, 1.0, 2.0, 1.0, smooth=1.0, segment=0.25)
    found = evaluate_rules({"raw": None}, "mini/synobjs", segmenter, kmeans, embedder, limit=2).anomalies
    assert list(found) == ["raw", "distance"]
    scores = {"raw": [-p.confidence for p in predictions]}
    maps = [Distances(p, kmeans, embedder).averaged(1.0, 0.25) for p in predictions]
    scores["distance"] = [upsample(m, p.shape) for m, p in zip(maps, predictions, strict=True)]
    unknown = np.concatenate([s.invalid().ravel() for s in samples])
    for name, counts in found.items():
        wanted = roc_auc_score(unknown, np.concatenate([m.ravel() for m in scores[name]]))
        assert counts.compute()["auroc_ood"] == pytest.approx(wanted, abs=1e-6) and counts.images == 2


def stand_in():
    """Segmenter that gives random predictions, the same ones at each use."""
    number = iter(range(100))
    return SimpleNamespace(predict=lambda image: make_prediction(next(number), image.shape[:2]))


def two_maps(prediction, sample):
    yield "raw", prediction.confidence
    yield ("oracle", 1), np.where(sample.invalid(), 0, prediction.confidence)


def test_maps_side_by_side():
    splits = ["mini/synobjs", "mini/SMIYC"]
    found = evaluate_maps(two_maps, splits, stand_in(), limit=3)
    assert list(found) == ["raw", ("oracle", 1)] and found["raw"].draws.size == 0
    segmenter = stand_in()
    for number, split in enumerate(splits):
        images = list(count_maps(two_maps, split, segmenter, limit=3))
        assert len(images) == 3
        for name, result in found.items():
            whole = BravoAccumulator.total(image[name] for image in images)
            assert result.counts[number].name == split and result.counts[number].images == 3
            for key in ("correct", "wrong", "invalid"):
                np.testing.assert_array_equal(getattr(result.counts[number], key), getattr(whole, key))
    assert mean_metrics(found["oracle", 1].counts)["auprc_ood"] == pytest.approx(1)


def test_maps_meet_the_same_draws():
    splits = ["mini/synobjs", "mini/SMIYC"]
    found = evaluate_maps(two_maps, splits, stand_in(), limit=3, draws=7, seed=2)
    segmenter, wanted = stand_in(), []
    for split in splits:
        images = [image["raw"] for image in count_maps(two_maps, split, segmenter, limit=3)]
        wanted.append(resampled_metrics(images, 7, 2, semantic=False, ood=True)["auprc_ood"])
    np.testing.assert_allclose(found["raw"].draws, np.mean(wanted, axis=0))
    assert (found["oracle", 1].draws > found["raw"].draws).all()
    with pytest.raises(MetricsError, match="invalid"):
        evaluate_maps(two_maps, ["mini/ACDCfog"], stand_in(), limit=2, draws=3)


def test_means_are_over_the_splits_that_are_asked_for_a_metric():
    found = evaluate_maps(two_maps, ["mini/synobjs", "mini/SMIYC", "mini/ACDCfog"], stand_in(), limit=2)
    counts = found["raw"].counts
    rows = [one.compute(semantic=True, ood=number < 2) for number, one in enumerate(counts)]
    means = mean_metrics(counts)
    assert means["auprc_ood"] == pytest.approx((rows[0]["auprc_ood"] + rows[1]["auprc_ood"]) / 2)
    assert means["auroc_valid"] == pytest.approx((rows[0]["auroc_valid"] + rows[2]["auroc_valid"]) / 2)
    assert "iou_valid" not in means and mean_metrics([BravoAccumulator("mini/SMIYC")]) == {}
