"""The rule for photographs: the same as its formula, its statistics, and clusters that leave an image out."""

from __future__ import annotations

from dataclasses import make_dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_prediction
from scipy import ndimage
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.cluster import KMeans

from iood_helpers.errors import ClusteringError, RefinementError
from iood_helpers.method.calibration import recalibrate
from iood_helpers.method.distances import Distances, upsample
from iood_helpers.method.embedder import PixelEmbedder
from iood_helpers.method.kmeans import ClassKMeans
from iood_helpers.method.refinement import CalibratedRule, refine_confidence
from iood_helpers.method.statistics import DistanceStatistics
from iood_helpers.method.surplus import SurplusRule, calibrate_on_images

CELLS = (12, 16)


def spread_out(seed, factor=1.0, share=1.0):
    """A prediction whose vectors are farther apart by a factor, in a share of the image from the left."""
    prediction = make_prediction(seed)
    features = tuple(f.copy() for f in prediction.features)
    for f in features:
        f[:, :, : int(share * f.shape[2])] *= factor
    return replace(prediction, features=features)


def segmenter(predictions):
    """Stand-in that gives these predictions, whatever it sees."""
    one_by_one = iter(predictions)
    return SimpleNamespace(predict=lambda _: next(one_by_one))


def samples(number, labels=None):
    return [SimpleNamespace(name=str(i), image=lambda: None, label=lambda: labels) for i in range(number)]


@pytest.fixture(scope="module")
def embedder():
    return PixelEmbedder((0, 1))


@pytest.fixture(scope="module")
def rows(embedder):
    """Vectors, classes and numbers of the images of four random predictions."""
    parts = []
    for seed in range(4):
        prediction = make_prediction(seed)
        pixels = np.argwhere(np.ones(prediction.shape, bool))[::5]
        vectors = embedder.transform(prediction, pixels)
        parts.append((vectors, prediction.classes[tuple(pixels.T)], np.full(len(pixels), seed)))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


@pytest.fixture
def kmeans(embedder, rows):
    model = ClassKMeans(2, n_init=1, n_shared=20).fit(*rows[:2])
    return calibrate_on_images(model, segmenter(map(make_prediction, range(4, 8))), samples(4), embedder)


def by_hand(prediction, vectors, centers, maps, bound):
    """The rule without the package: confidence (h, w) at the cells, for vectors (h, w, D)."""
    nearest = np.linalg.norm(vectors[:, :, None] - centers, axis=-1).min(-1)
    classes = prediction.logits.argmax(0)
    near = ndimage.gaussian_filter(nearest, 2, mode="nearest")
    distance = np.empty(near.shape)
    for c in np.unique(classes):
        parts, number = ndimage.label(classes == c)
        for part in range(1, number + 1):
            distance[parts == part] = (near[parts == part] + near[parts == part].mean()) / 2
    cells = np.concatenate([m.ravel() for m in maps])
    means, stds = [m.mean() for m in maps], [m.std() for m in maps]
    evidence = np.maximum((distance - cells.mean()) / cells.std(), 0) ** 2 / 2
    far = (distance.ravel() >= distance.ravel()[:, None]).mean(1).reshape(distance.shape)
    usual = norm.sf(distance, np.mean(means) + np.std(means), np.mean(stds) + np.std(stds))
    ratio = np.maximum(far / usual, 1)
    ratio = np.array([ratio[distance <= d].max() for d in distance.ravel()]).reshape(distance.shape)
    return bound * np.tanh(evidence * (1 - 1 / ratio) / bound)


def test_the_rule_is_its_formula(kmeans, embedder):
    prediction = spread_out(9, 1.2, share=0.5)
    maps = [Distances(make_prediction(seed), kmeans, embedder).averaged() for seed in range(4, 8)]
    vectors = embedder.transform_grid(prediction)
    penalty = by_hand(prediction, vectors, kmeans.shared_centers_, maps, bound=8.0)
    assert ((penalty > 2) & (penalty < 6)).mean() > 0.1 and penalty.min() < 0.5
    wanted = expit(logit(1e-6 + (1 - 2e-6) * prediction.confidence) - upsample(penalty, prediction.shape))
    found, mask = SurplusRule(bound=8.0, alpha=0.2).apply(prediction, Distances(prediction, kmeans, embedder))
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    usual = kmeans.statistics_
    far = Distances(prediction, kmeans, embedder).averaged() > usual.mean + norm.isf(0.2) * usual.std
    assert 0.1 < far.mean() < 0.9 and abs(mask.mean() - far.mean()) < 0.05


def test_the_short_way_is_the_rule(kmeans, embedder):
    prediction = spread_out(9, 1.2)
    short, _ = refine_confidence(prediction, kmeans, embedder, mode="surplus", bound=20)
    long, _ = SurplusRule(bound=20).apply(prediction, Distances(prediction, kmeans, embedder))
    np.testing.assert_array_equal(short, long)


def test_nothing_is_unexplained_in_an_image_as_usual():
    usual = DistanceStatistics(mean=5, std=1, image_mean=5.5, image_std=1.2)
    cells = np.random.default_rng(0).normal(5, 1, CELLS)
    assert usual.unexplained(cells).max() < 0.02  # though some cells are far
    assert usual.evidence(cells).max() > 1
    strange = cells.copy()
    strange[:3, :4] += 6
    share = usual.unexplained(strange)
    assert share[:3, :4].min() > 0.9 > 0.2 > np.median(share)
    order = np.argsort(strange, axis=None)
    assert (np.diff(share.ravel()[order]) >= 0).all()  # what is farther is never explained better


def test_the_penalty_grows_with_the_evidence_up_to_its_bound(kmeans, embedder):
    near, far, farther = (spread_out(9, factor, 0.5) for factor in (1.0, 1.5, 4.0))
    means = {}
    for bound in (2.0, 20.0):
        for name, prediction in (("near", near), ("far", far), ("farther", farther)):
            found, _ = refine_confidence(prediction, kmeans, embedder, mode="surplus", bound=bound)
            penalty = logit(1e-6 + (1 - 2e-6) * prediction.confidence) - logit(1e-6 + (1 - 2e-6) * found.astype(float))
            assert penalty.min() > -1e-2 and penalty.max() < bound + 1e-2
            means[name, bound] = penalty.mean()
    assert means["near", 2.0] + 0.1 < means["far", 2.0] < means["farther", 2.0] - 0.02, means
    assert means["farther", 20.0] > 3 * means["farther", 2.0]


def test_statistics_by_hand():
    maps = [np.array([[1.0, 3.0]]), np.array([[2.0], [6.0], [4.0]])]
    usual = DistanceStatistics.from_maps(maps)
    assert usual.mean == pytest.approx(16 / 5) and usual.std == pytest.approx(np.std([1, 3, 2, 6, 4]))
    assert usual.image_mean == pytest.approx(3 + 1)  # means 2 and 4
    stds = 1, np.sqrt(8 / 3)
    assert usual.image_std == pytest.approx(np.mean(stds) + np.std(stds))
    alone = DistanceStatistics.from_maps(maps[:1])
    assert alone.image_mean == alone.mean and alone.image_std == alone.std
    with pytest.raises(ClusteringError, match="at least one"):
        DistanceStatistics.from_maps([])
    with pytest.raises(ClusteringError, match="impossible"):
        DistanceStatistics.from_maps([np.ones(CELLS)])  # no spread: nothing could be far


def test_averages_keep_to_segments(kmeans, embedder):
    prediction = make_prediction(3)
    distances = Distances(prediction, kmeans, embedder)
    np.testing.assert_array_equal(distances.averaged(0, 0), distances.shared)
    whole = distances.averaged(0, 1)
    parts, number = ndimage.label(distances.classes == distances.classes[0, 0])
    assert number and np.ptp(whole[parts == parts[0, 0]]) < 1e-5
    assert whole[0, 0] == pytest.approx(distances.shared[parts == parts[0, 0]].mean(), rel=1e-5)
    np.testing.assert_allclose(distances.averaged(0, 0.25), 0.75 * distances.shared + 0.25 * whole, rtol=1e-5)


def test_shared_centers_are_scikit_learns(rows):
    x, y, _ = rows
    model = ClassKMeans(2, n_init=1, n_shared=7, random_state=3).fit(x, y)
    drawn = np.random.default_rng(3).permutation(len(x))[: 20 * 7]
    plain = KMeans(7, n_init=1, max_iter=30, random_state=3).fit(x[drawn])
    np.testing.assert_allclose(model.shared_centers_, plain.cluster_centers_, rtol=1e-4, atol=1e-5)
    wanted = plain.transform(x).min(1)
    np.testing.assert_allclose(model.shared_distance(x), wanted, rtol=1e-3, atol=1e-3)
    assert len(ClassKMeans(2, n_init=1, n_shared=1000).fit(x[:50], y[:50]).shared_centers_) == 10


def test_left_out_images_are_measured_by_clusters_that_have_not_seen_them(rows, embedder):
    x, y, images = rows
    model = ClassKMeans(8, n_init=1, n_shared=400, min_samples_per_cluster=1).fit(x, y)
    left_out = model.leaving_out(x, y, images)
    assert sorted(left_out) == [0, 1, 2, 3]
    seen = calibrate_on_images(model, segmenter(map(make_prediction, range(4))), samples(4), embedder).statistics_
    unseen = calibrate_on_images(
        model, segmenter(map(make_prediction, range(4))), samples(4), embedder, left_out=left_out
    ).statistics_
    maps = [Distances(make_prediction(i), left_out[i], embedder).averaged() for i in range(4)]
    assert unseen == DistanceStatistics.from_maps(maps)
    assert unseen.mean > 1.02 * seen.mean and left_out[2].statistics_ == model.statistics_ == unseen
    in_sample = np.median(model.calibrate(x, y).quantiles_[-1])
    out_of_sample = np.median(model.calibrate(x, y, images, left_out).quantiles_[-1])
    assert out_of_sample > 1.02 * in_sample and left_out[0].quantiles_ is model.quantiles_
    with pytest.raises(ClusteringError, match="no vectors"):
        model.leaving_out(x[images == 0], y[images == 0], images[images == 0])


def test_recalibration_with_left_out_clusters(kmeans, embedder):
    far, label = spread_out(9, 3.0), make_prediction(1).classes
    curves = []
    for left_out in (None, {0: replaced(kmeans, mean=50.0)}):
        rules = recalibrate(
            {"surplus": SurplusRule(), "calibrated": CalibratedRule()},
            segmenter([far, make_prediction(5)]),
            samples(2, label),
            kmeans.calibrate(*self_rows(embedder)),
            embedder,
            left_out=left_out and {0: left_out[0].calibrate(*self_rows(embedder))},
        )
        assert isinstance(rules["surplus"], SurplusRule)
        curves.append(rules["surplus"].recalibration.a_)
    assert curves[0] != curves[1]


def self_rows(embedder):
    prediction = make_prediction(0)
    pixels = np.argwhere(np.ones(prediction.shape, bool))[::7]
    return embedder.transform(prediction, pixels), prediction.classes[tuple(pixels.T)]


def replaced(kmeans, **changes):
    """The same clusters with other statistics."""
    other = ClassKMeans(**kmeans.get_params())
    vars(other).update(vars(kmeans), statistics_=replace(kmeans.statistics_, **changes))
    return other


def test_files_keep_shared_centers_and_statistics(kmeans, tmp_path):
    again = ClassKMeans.load(kmeans.save(tmp_path / "kmeans.safetensors"))
    np.testing.assert_array_equal(again.shared_centers_, kmeans.shared_centers_)
    assert again.statistics_ == kmeans.statistics_ and again.get_params()["n_shared"] == 20
    assert again.save(tmp_path / "again").read_bytes() == (tmp_path / "kmeans.safetensors").read_bytes()


@pytest.mark.parametrize("what", ["width", "list", "text", "negative", "name"])
def test_damaged_files_are_refused(kmeans, tmp_path, what):
    damaged = ClassKMeans(**kmeans.get_params())
    vars(damaged).update(vars(kmeans))
    if what == "width":
        damaged.shared_centers_ = kmeans.shared_centers_[:, :3]
    elif what == "name":
        damaged.statistics_ = make_dataclass("Other", ["median"])(1.0)
    else:
        damaged.statistics_ = replace(kmeans.statistics_)
        object.__setattr__(damaged.statistics_, "std", {"list": [3.0], "text": "1", "negative": -1.0}[what])
    path = damaged.save(tmp_path / "kmeans.safetensors")
    with pytest.raises(ClusteringError, match="fit it anew"):
        ClassKMeans.load(path)


def test_what_is_missing_is_named(rows, embedder, prediction):
    plain = ClassKMeans(2, n_init=1).fit(*rows[:2])
    with pytest.raises(RefinementError, match="calibrate_on_images"):
        refine_confidence(prediction, plain, embedder, mode="surplus")
    with pytest.raises(RefinementError, match="n_shared=1000"):
        Distances(prediction, plain, embedder).averaged()
    for options in ({"bound": 0}, {"bound": float("nan")}, {"alpha": 2}):
        with pytest.raises(RefinementError, match=next(iter(options))):
            SurplusRule(**options)
    for bad in (-1, 1.5, 2_000_000):
        with pytest.raises(ClusteringError, match="n_shared"):
            ClassKMeans(2, n_shared=bad).fit(*rows[:2])
