"""AUROC, AP and FPR95 against scikit-learn, within classes and of the class alone; levels, merging, void."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from iood_helpers.anomaly import AnomalyAccumulator
from iood_helpers.anomaly.levels import LevelCounts, level_scores, score_levels
from iood_helpers.errors import MetricsError

SHAPE = (30, 40)
RANKING = ("auroc_ood", "auprc_ood", "fpr95_ood")


def image(seed: int, void: bool = True):
    """Scores that depend on the predicted class and on the pixel; some are tied."""
    rng = np.random.default_rng(seed)
    classes = rng.choice([0, 2, 11, 13], SHAPE, p=[0.4, 0.3, 0.1, 0.2]).astype(np.uint8)
    anomaly = rng.random(SHAPE) < np.where(classes == 11, 0.5, 0.05)
    scores = rng.normal(0, 1, SHAPE) + 1.5 * anomaly + np.where(classes == 11, 1, 0)
    scores[rng.random(SHAPE) < 0.2] = 0.25
    return scores.astype(np.float32), anomaly, classes, (rng.random(SHAPE) < 0.1) & void


def count(images, **options) -> AnomalyAccumulator:
    counts = AnomalyAccumulator(**options)
    for each in images:
        counts.update(*each)
    return counts


def pooled(images):
    scores, anomaly, classes, void = (
        np.concatenate([part.ravel() for part in parts]) for parts in zip(*images, strict=True)
    )
    return scores[~void], anomaly[~void], classes[~void]


def by_sklearn(scores, anomaly) -> list[float]:
    fpr, tpr, _ = roc_curve(anomaly, scores, drop_intermediate=False)
    first = fpr[np.argmax(tpr >= 0.95)]
    return [roc_auc_score(anomaly, scores), average_precision_score(anomaly, scores), first]


@pytest.fixture(scope="module")
def images():
    return [image(seed) for seed in range(5)]


# against scikit-learn, on pooled arrays


def test_metrics_are_those_of_scikit_learn(images):
    scores, anomaly, classes = pooled(images)
    result = count(images).compute()
    assert [result[key] for key in RANKING] == pytest.approx(by_sklearn(scores, anomaly), abs=1e-9)
    prior = np.zeros_like(scores)
    within, weights = [], []
    for c in np.unique(classes):
        chosen = classes == c
        prior[chosen] = scores[chosen].mean(dtype=np.float64)
        within.append(roc_auc_score(anomaly[chosen], scores[chosen]))
        weights.append(anomaly[chosen].sum())
    assert result["auroc_within_class"] == pytest.approx(np.average(within, weights=weights), abs=1e-9)
    found = [result[f"class_prior_{key}"] for key in RANKING]
    assert found == pytest.approx(by_sklearn(prior, anomaly), abs=1e-9)
    assert len(result) == 7


def test_without_classes_there_are_three_metrics(images):
    scores, anomaly, _ = pooled(images)
    counts = AnomalyAccumulator()
    for score, mask, _, void in images:
        counts.update(score, mask, void=void)
    assert list(counts.compute().values()) == pytest.approx(by_sklearn(scores, anomaly), abs=1e-9)


@pytest.mark.parametrize("kind", [np.int32, np.float64, np.float16])
def test_scores_of_any_type(kind):
    scores, anomaly, classes, void = image(0)
    scores = (50 * scores).astype(kind)
    result = AnomalyAccumulator().update(scores, anomaly, classes, void).compute()
    assert [result[key] for key in RANKING] == pytest.approx(by_sklearn(scores[~void], anomaly[~void]), abs=1e-9)


# what must not matter


@pytest.mark.parametrize("change", [np.exp, lambda s: s**3, lambda s: 1e-20 * s - 1e-19, lambda s: 7 * s + 1e3])
def test_a_rising_map_of_the_scores_changes_nothing_but_the_class_prior(images, change):
    changed = [(change(s.astype(np.float64)), a, c, v) for s, a, c, v in images]
    one, other = count(images).compute(), count(changed).compute()
    # in float32 a few scores beside 1000 become equal
    assert [other[k] for k in (*RANKING, "auroc_within_class")] == pytest.approx(
        [one[k] for k in (*RANKING, "auroc_within_class")], abs=1e-6
    )


@pytest.mark.parametrize("max_entries", [1 << 20, 300])
def test_merging_is_pooling_in_any_order(images, max_entries):
    whole = count(images, max_entries=max_entries).compute()
    for order in ([4, 2, 0, 1, 3], [1, 0, 3, 2, 4]):
        parts = [count([images[i]], max_entries=max_entries) for i in order]
        assert AnomalyAccumulator.total(parts, max_entries).compute() == pytest.approx(whole, abs=1e-12)
        assert parts[0].images == 1


def test_what_was_counted_coarsely_stays_so_when_it_is_merged():
    rng = np.random.default_rng(0)
    many, few = ((rng.normal(size=(1, n)), rng.random((1, n)) < 0.5) for n in (3000, 20))
    whole, one, other = (AnomalyAccumulator(max_entries=500) for _ in range(3))
    whole.update(*few).update(*many)
    assert one.update(*few).merge(other.update(*many)).compute() == whole.compute()
    assert one._counts.dropped == whole._counts.dropped > 0


def test_void_counts_nowhere():
    scores, anomaly, classes, void = image(3)
    assert void.any()
    odd = scores.copy()
    odd[void] = np.nan
    one = AnomalyAccumulator().update(odd, anomaly | void, np.where(void, 3, classes), void)
    other = AnomalyAccumulator().update(scores[~void][None], anomaly[~void][None], classes[~void][None])
    assert one.compute() == pytest.approx(other.compute(), abs=1e-12)
    assert one.pixels.sum() == (~void).sum()


def test_a_score_of_the_class_alone_says_nothing_within_classes(images):
    rank = np.arange(19, dtype=np.float32)[::-1]
    flat = [(rank[c], a, c, v) for _, a, c, v in images]
    result = count(flat).compute()
    assert result["auroc_within_class"] == 0.5
    assert [result[key] for key in RANKING] == pytest.approx([result[f"class_prior_{key}"] for key in RANKING])


def test_classes_of_equal_means_are_tied_in_the_class_prior():
    rng = np.random.default_rng(0)
    anomaly, classes = rng.random(SHAPE) < 0.3, rng.integers(0, 19, SHAPE)
    result = AnomalyAccumulator().update(np.full(SHAPE, 0.1), anomaly, classes).compute()
    assert result["class_prior_auroc_ood"] == 0.5 == result["auroc_ood"]


def test_a_class_of_anomalies_only_has_no_auroc_of_its_own():
    scores = np.array([[0.0, 1, 2, 3, 9]])
    anomaly, classes = np.array([[0, 1, 0, 1, 1]]), np.array([[0, 0, 0, 0, 5]])
    result = AnomalyAccumulator().update(scores, anomaly, classes).compute()
    assert result["auroc_within_class"] == 0.75


# levels


def test_levels_are_ordered_as_scores_and_can_be_turned_back():
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=4000) * 10.0 ** rng.integers(-40, 38, 4000)).astype(np.float32)
    scores = np.sort(np.concatenate([scores, np.float32([0, 1e-45, -1e-45, 3.4e38, -3.4e38])]))
    levels = score_levels(scores)
    assert (np.diff(levels.astype(np.int64)) >= 0).all()
    np.testing.assert_array_equal(level_scores(levels), scores)
    assert score_levels(np.float32([-0.0])) == score_levels(np.float32([0.0]))


def test_bits_are_dropped_only_as_far_as_memory_asks_for():
    scores = np.random.default_rng(0).uniform(1, 2, 5000).astype(np.float32)
    counts = LevelCounts(1000)
    counts.add(np.zeros(5000, int), scores)
    levels, number = counts.of([0])
    assert 500 < len(levels) <= 1000 and number.sum() == 5000
    assert counts.dropped == 14  # of 23 bits between 1 and 2, 9 are left: 512 levels
    assert (level_scores(levels) <= np.sort(scores)[np.cumsum(number[0]) - number[0]]).all()


def test_coarse_levels_are_those_of_rounded_scores_and_hardly_change_metrics():
    """A million pixels with a score of their own, in a sixteenth of the entries that they would fill."""
    rng = np.random.default_rng(1)
    shape, entries = (500, 400), 1 << 16
    images = []
    for _ in range(5):
        anomaly = rng.random(shape) < 0.1
        images.append((rng.gamma(2, 1 + anomaly, shape), anomaly, rng.integers(0, 3, shape)))
    fine, coarse = count(images), count(images, max_entries=entries)
    assert len(coarse._counts._keys) <= entries < len(fine._counts._keys) and fine._counts.dropped == 0
    exact, rounded = fine.compute(), coarse.compute()
    assert rounded == pytest.approx(exact, abs=2e-4) and rounded != exact
    step = np.uint32(coarse._counts.dropped)
    scores, anomaly = (np.concatenate([i[part].ravel() for i in images]) for part in (0, 1))
    quantized = score_levels(scores.astype(np.float32)) >> step
    assert [rounded[key] for key in RANKING] == pytest.approx(by_sklearn(quantized, anomaly), abs=1e-9)


# what is refused


def test_metrics_that_are_not_defined():
    scores, anomaly, classes, _ = image(0)
    for mask, words in ((np.zeros(SHAPE, bool), "no pixel is an"), (np.ones(SHAPE, bool), "every pixel is an")):
        counts = AnomalyAccumulator("here").update(scores, mask, classes)
        with pytest.raises(MetricsError, match=rf"The metrics of here are not defined, since {words} anomaly in 1 im"):
            counts.compute()
    with pytest.raises(MetricsError, match="no pixel is an anomaly"):
        AnomalyAccumulator().update(scores, np.zeros(SHAPE, bool)).best_f1_threshold()
    with pytest.raises(MetricsError, match="some have no predicted classes in 2 images; give them for all or none"):
        AnomalyAccumulator().update(scores, anomaly).update(scores, anomaly, classes).compute()
    apart = AnomalyAccumulator().update(np.zeros((1, 2)), np.array([[0, 1]]), np.array([[0, 1]]))
    with pytest.raises(MetricsError, match="no predicted class has in-distribution and anomalous pixels"):
        apart.compute()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"scores": np.zeros((2, 3, 4))}, r"The scores of x are float64 \(2, 3, 4\)"),
        ({"scores": np.full(SHAPE, "a")}, "pass a map"),
        ({"scores": np.zeros((30, 41))}, r"The map of anomalies of x has the shape \(30, 40\)"),
        ({"scores": np.full(SHAPE, np.nan)}, "hold NaN"),
        ({"scores": np.full(SHAPE, 1e300)}, "float32 cannot hold"),
        ({"void": np.zeros((3, 4), bool)}, "The map of void pixels of x has the shape"),
        ({"classes": np.zeros((3, 4), int)}, "The predicted classes of x have the shape"),
        ({"classes": np.full(SHAPE, 19)}, r"The predicted classes of x hold the ids \[19\]"),
        ({"anomaly": np.full(SHAPE, np.nan)}, "The map of anomalies of x is no"),
    ],
)
def test_maps_that_do_not_fit_are_refused_and_nothing_is_counted(change, words):
    scores, anomaly, classes, void = image(0)
    maps = {"scores": scores, "anomaly": anomaly, "classes": classes, "void": void} | change
    counts = AnomalyAccumulator("x")
    with pytest.raises(MetricsError, match=words):
        counts.update(**maps)
    assert counts.images == 0 and counts.pixels.sum() == 0
