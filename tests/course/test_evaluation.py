"""Rules side by side: the same numbers as each alone, and the predictions on disk."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_prediction

from iood_helpers import ClassKMeans, PixelEmbedder, load_dataset, refine_confidence
from iood_helpers.bravo.accumulator import BravoAccumulator
from iood_helpers.bravo.submission import read_prediction
from iood_helpers.course.evaluation import evaluate_rules
from iood_helpers.method.refinement import FusedRule, PublishedRule


def test_rules_side_by_side(tmp_path):
    samples = load_dataset("mini/synobjs", limit=2)
    predictions = iter([make_prediction(seed, sample.invalid().shape) for seed, sample in enumerate(samples)])
    embedder, shown = PixelEmbedder((0, 1)), []
    segmenter = SimpleNamespace(predict=lambda image: shown.append(next(predictions)) or shown[-1])
    vectors = np.random.default_rng(0).normal(size=(600, 7)).astype(np.float32)
    kmeans = ClassKMeans(3).fit(vectors, np.arange(600) % 19).calibrate(vectors, np.arange(600) % 19)
    rules = {"raw": None, "published": PublishedRule(factor=0.8), "fused": FusedRule(alpha=0.3)}
    counts, flagged = evaluate_rules(rules, "mini/synobjs", segmenter, kmeans, embedder, limit=2, tree=tmp_path)
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
