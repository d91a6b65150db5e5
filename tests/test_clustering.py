"""One KMeans per class: centres, distances, calibration, files."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans

from iood_helpers.clustering import START_ROWS_PER_CLUSTER, ClassKMeans
from iood_helpers.errors import ClusteringError


def blobs(n=400, seed=0):
    """Three classes around different places, the last one rare."""
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 4, 11], n, p=[0.55, 0.42, 0.03])
    places = {0: (0, 0, 0), 4: (20, 0, 0), 11: (0, 30, 0)}
    return (rng.normal(size=(n, 3)) + np.array([places[c] for c in y])).astype(np.float32), y


@pytest.fixture(scope="module")
def fitted():
    return ClassKMeans(n_clusters=6).fit(*blobs()).calibrate(*blobs(seed=1))


def test_each_class_is_scikit_learns_kmeans(fitted):
    x, y = blobs()
    plain = KMeans(6, n_init=3, max_iter=100, random_state=0).fit(x[y == 4])
    np.testing.assert_allclose(fitted.centers_[4], plain.cluster_centers_, rtol=1e-5)
    assert fitted.inertia_[4] == pytest.approx(plain.inertia_)
    assert fitted.counts_[4].sum() == (y == 4).sum()


def test_rare_classes_get_fewer_centres_and_are_remembered(fitted):
    _, y = blobs()
    assert len(fitted.centers_[11]) == max(1, min(6, (y == 11).sum() // 10))
    assert ClassKMeans(n_clusters=30).fit(*blobs()).too_small_ == [11]
    assert sorted(fitted.centers_) == [0, 4, 11]


def test_distances_are_euclidean(fitted):
    x, _ = blobs(50, seed=2)
    x = x + 1000  # far from the origin: the quick formula must not lose digits
    model = ClassKMeans(n_clusters=2).fit(*(lambda a, b: (a + 1000, b))(*blobs()))
    wanted = np.linalg.norm(x[:, None].astype(float) - model.centers_[0][None], axis=-1)
    np.testing.assert_allclose(model.distances(x, 0), wanted, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(model.transform(x)[:, 0], wanted.min(1), rtol=2e-3, atol=2e-3)


def test_prediction_finds_the_class(fitted):
    x, y = blobs(seed=3)
    assert (fitted.predict(x) == y).mean() > 0.99
    assert np.isinf(fitted.transform(x)[:, 7]).all()


def test_scores_fall_with_distance(fitted):
    steps = np.array([[0, 0, z] for z in (0, 3, 6, 12)], np.float32)
    assert (np.diff(fitted.score_samples(steps, np.zeros(4))) < 0).all()
    assert (fitted.score_samples(steps) >= fitted.score_samples(steps, np.zeros(4)) - 1e-6).all()


def test_a_class_without_centres_is_measured_against_all(fitted):
    x = np.array([[0, 0, 0], [200, 200, 200]], np.float32)
    near, far = fitted.scaled_distance(x, np.array([7, 7]))
    assert near < 3 < far and (fitted.predict_cluster(x, np.array([7, 7])) == -1).all()


@pytest.mark.parametrize("spread", ["class", "cluster"])
def test_spread_is_the_rms_distance_of_the_class_or_the_cluster(spread):
    x, y = blobs()
    model = ClassKMeans(n_clusters=3, spread=spread).fit(x, y)
    member = model.predict_cluster(x[y == 0], y[y == 0])
    squared = ((x[y == 0] - model.centers_[0][member]) ** 2).sum(1)
    for k in range(3):
        wanted = squared[member == k] if spread == "cluster" else squared
        assert model.spreads_[0][k] == pytest.approx(np.sqrt(wanted.mean()), rel=1e-3)
    assert (len(set(model.spreads_[0])) == 1) == (spread == "class")


def test_tail_probability_is_the_false_alarm_rate_on_fresh_pixels():
    model = ClassKMeans(n_clusters=4).fit(*blobs(3000)).calibrate(*blobs(3000, seed=1))
    x, y = blobs(6000, seed=2)
    for c in (0, 4):
        tail = model.tail_probability(model.scaled_distance(x[y == c], y[y == c]), y[y == c])
        for alpha in (0.05, 0.2, 0.5):
            assert (tail < alpha).mean() == pytest.approx(alpha, abs=0.035)
    assert (model.tail_probability(np.array([0.0, 1e9]), np.array([0, 0])) > 0).all()


def test_tail_probability_never_rises_with_distance(fitted):
    tail = fitted.tail_probability(np.linspace(0, 5, 100), np.zeros(100))
    assert (np.diff(tail) <= 0).all() and tail[0] == 1


def test_classes_with_few_held_out_pixels_use_all_of_them(fitted):
    assert 11 not in fitted.quantiles_
    distance = np.array([1.0])
    assert fitted.tail_probability(distance, [11]) == fitted.tail_probability(distance, [18])


def test_refitting_per_image_keeps_only_the_last_image():
    x, y = blobs()
    groups = np.arange(len(y)) // 100
    flawed = ClassKMeans(n_clusters=3, refit_per_image=True).fit(x, y, groups)
    last = ClassKMeans(n_clusters=3).fit(x[groups == 3], y[groups == 3])
    np.testing.assert_allclose(flawed.centers_[0], last.centers_[0])
    with pytest.raises(ClusteringError, match="groups"):
        ClassKMeans(refit_per_image=True).fit(x, y)


def test_is_a_scikit_learn_estimator():
    model = ClassKMeans(n_clusters=7, random_state=3)
    assert clone(model).get_params() == model.get_params()
    x, y = blobs()
    a, b = clone(model).fit(x, y), clone(model).fit(x, y)
    np.testing.assert_array_equal(a.centers_[0], b.centers_[0])


def test_saved_and_loaded_is_the_same(fitted, tmp_path):
    other = ClassKMeans.load(fitted.save(tmp_path / "kmeans.safetensors"))
    x, y = blobs(seed=4)
    assert other.get_params() == fitted.get_params() and other.inertia_ == fitted.inertia_
    np.testing.assert_array_equal(other.score_samples(x, y), fitted.score_samples(x, y))
    np.testing.assert_array_equal(
        other.tail_probability(np.ones(3), [0, 4, 11]), fitted.tail_probability(np.ones(3), [0, 4, 11])
    )


def test_bad_input(tmp_path):
    x, y = blobs()
    with pytest.raises(ClusteringError, match="NaN"):
        ClassKMeans().fit(np.where(x > 2, np.nan, x), y)
    with pytest.raises(ClusteringError, match=r"train ids 0\.\.18; found 0 to 255"):
        ClassKMeans().fit(x, np.where(y == 4, 255, y))
    with pytest.raises(ClusteringError, match="do not fit"):
        ClassKMeans().fit(x, y[:-1])
    with pytest.raises(ClusteringError, match="not calibrated"):
        ClassKMeans(n_clusters=2).fit(x, y).tail_probability([1.0], [0])
    (tmp_path / "half.safetensors").write_bytes(b"half a file")
    with pytest.raises(ClusteringError, match=r"half\.safetensors"):
        ClassKMeans.load(tmp_path / "half.safetensors")


def test_many_pixels_start_from_a_sample_and_end_as_well():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(6000, 8)) + 6 * rng.normal(size=(12, 8)).repeat(500, axis=0)).astype(np.float32)
    model = ClassKMeans(n_clusters=12, n_init=3).fit(x, np.zeros(len(x), int))
    assert len(x) > START_ROWS_PER_CLUSTER * model.n_clusters
    assert model.inertia_[0] < 1.01 * KMeans(12, n_init=3, random_state=0).fit(x).inertia_
