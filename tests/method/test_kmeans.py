"""One KMeans per class: centres, distances, calibration, files."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from conftest import ROOT
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from iood_helpers.errors import ClusteringError
from iood_helpers.method.kmeans import START_ROWS_PER_CLUSTER, ClassKMeans


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


def test_rare_classes_get_fewer_centers_and_are_remembered(fitted):
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


def test_a_class_without_centers_is_measured_against_all(fitted):
    x = np.array([[0, 0, 0], [200, 200, 200]], np.float32)
    near, far = fitted.scaled_distance(x, np.array([7, 7]))
    assert near < 3 < far and (fitted.predict_cluster(x, np.array([7, 7])) == -1).all()


def test_the_scale_is_the_rms_distance_of_the_class():
    x, y = blobs()
    model = ClassKMeans(n_clusters=3).fit(x, y)
    squared = ((x[y == 0] - model.centers_[0][model.predict_cluster(x[y == 0], y[y == 0])]) ** 2).sum(1)
    assert model.scales_[0] == pytest.approx(np.sqrt(squared.mean()), rel=1e-3)
    np.testing.assert_allclose(model.scaled_distance(x[y == 0], y[y == 0]) * model.scales_[0], squared**0.5, rtol=2e-3)


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


def test_classes_with_few_calibration_pixels_use_all_of_them(fitted):
    assert 11 not in fitted.quantiles_
    distance = np.array([1.0])
    assert fitted.tail_probability(distance, [11]) == fitted.tail_probability(distance, [18])


def test_is_a_scikit_learn_estimator():
    model = ClassKMeans(n_clusters=7, random_state=3)
    assert clone(model).get_params() == model.get_params()
    x, y = blobs()
    a, b = clone(model).fit(x, y), clone(model).fit(x, y)
    np.testing.assert_allclose(a.centers_[0], b.centers_[0], rtol=1e-5, atol=1e-5)


OWN_WORDS = "refused with a ValueError, as asked, but in this package's words"
UNLIKE_SCIKIT_LEARN = {
    "check_complex_data": OWN_WORDS,
    "check_estimators_empty_data_messages": OWN_WORDS,
    "check_fit2d_predict1d": OWN_WORDS,
    "check_n_features_in_after_fitting": OWN_WORDS,
    "check_dtype_object": "vectors are numbers: arrays of Python objects are refused, whatever they hold",
    "check_transformer_n_iter": "each class is a KMeans of its own, so that there is no one number of rounds",
}
"""What scikit-learn asks of an estimator and ClassKMeans does not do, with the reason; book/elsewhere.md tells it."""


def test_passes_scikit_learns_checks():
    """With scikit-learn's own data, whose classes are train ids; it passes or is listed, and nothing listed passes."""
    results = check_estimator(
        ClassKMeans(n_clusters=3, n_init=1), expected_failed_checks=UNLIKE_SCIKIT_LEARN, on_fail=None, on_skip=None
    )
    failed = {one["check_name"]: one["exception"] for one in results if one["status"] == "failed"}
    assert not failed and len(results) > 40
    assert {one["check_name"] for one in results if one["status"] == "xfail"} == set(UNLIKE_SCIKIT_LEARN)
    page = (ROOT / "book/elsewhere.md").read_text()
    assert set(re.findall(r"`(check_\w+_\w+)`", page)) == set(UNLIKE_SCIKIT_LEARN)


def test_errors_are_those_that_scikit_learn_catches(fitted):
    x, y = blobs()
    refused = {
        "instead of 3": lambda: fitted.predict(x[:, :1]),
        "not \\(3,\\)": lambda: fitted.predict(x[0]),
        "complex": lambda: ClassKMeans().fit(x * 1j, y),
        "no vectors": lambda: ClassKMeans().fit(x[:0], y[:0]),
        "sparse": lambda: fitted.transform(csr_array(x)),
        "requires y": lambda: ClassKMeans().fit(x, None),
    }
    for match, call in refused.items():
        with pytest.raises(ValueError, match=match):
            call()
    for error in (NotFittedError, ClusteringError):
        with pytest.raises(error, match="call fit"):
            ClassKMeans().predict(x)


def test_works_in_a_pipeline_and_a_search():
    x, y = blobs()
    pipeline = make_pipeline(StandardScaler(), ClassKMeans(n_init=1))
    search = GridSearchCV(pipeline, {"classkmeans__n_clusters": [1, 4]}, scoring="accuracy", cv=2).fit(x, y)
    assert search.best_score_ > 0.95 and search.predict(x).shape == (400,)


def test_saved_and_loaded_is_the_same(fitted, tmp_path):
    other = ClassKMeans.load(fitted.save(tmp_path / "kmeans.safetensors"))
    x, y = blobs(seed=4)
    assert other.get_params() == fitted.get_params() and other.inertia_ == fitted.inertia_
    np.testing.assert_allclose(other.score_samples(x, y), fitted.score_samples(x, y), rtol=1e-5, atol=1e-6)
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


@pytest.mark.parametrize(
    "options",
    [
        {"n_clusters": 0},
        {"n_clusters": -1},
        {"n_clusters": 2.0},
        {"n_clusters": True},
        {"n_clusters": "3"},
        {"n_init": 0},
        {"max_iter": 0},
        {"min_samples_per_cluster": 0},
        {"random_state": -1},
    ],
)
def test_impossible_parameters_are_refused(options):
    with pytest.raises(ClusteringError, match=next(iter(options))):
        ClassKMeans(**options).fit(*blobs())


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8, np.uint16, np.float32])
def test_any_type_of_number_gives_the_same(tmp_path, fitted, kind):
    x, y = blobs()
    model = ClassKMeans(np.int32(6), n_init=np.int64(3), random_state=np.uint8(0)).fit(x.astype(float), y.astype(kind))
    np.testing.assert_allclose(model.centers_[4], fitted.centers_[4])
    other = ClassKMeans.load(model.save(tmp_path / "kmeans.safetensors"))
    wanted = model.scaled_distance(x, y)
    np.testing.assert_allclose(other.scaled_distance(x, y.astype(kind)), wanted, rtol=1e-4, atol=1e-5)
    half = x.astype(np.float16)
    np.testing.assert_allclose(model.transform(half), model.transform(half.astype(float)), rtol=1e-4, atol=1e-5)


def takers(model):
    """Everything that takes vectors and classes, as functions of both."""
    return {
        "fit": lambda x, y: ClassKMeans(2).fit(x, y),
        "calibrate": lambda x, y: ClassKMeans(2).fit(*blobs()).calibrate(x, y),
        "predict_cluster": model.predict_cluster,
        "scaled_distance": model.scaled_distance,
        "score_samples": model.score_samples,
    }


@pytest.mark.parametrize("taker", takers(ClassKMeans()))
@pytest.mark.parametrize(
    "wrong", ["NaN", "infinite", "huge", "words", "flat", "classes", "negative", "beyond", "half", "bool", "NaN class"]
)
def test_the_same_check_by_all_that_take_vectors(fitted, taker, wrong):
    x, y = blobs()
    hole = np.where(np.arange(len(y)) == 7, 1, 0)
    values = {
        "NaN": (np.where(hole[:, None], np.nan, x), y),
        "infinite": (np.where(hole[:, None], -np.inf, x), y),
        "huge": (x * 1e25, y),
        "words": (x.astype(str), y),
        "flat": (x[:, 0], y),
        "classes": (x, y[:-1]),
        "negative": (x, np.where(hole, -1, y)),
        "beyond": (x, np.where(hole, 19, y)),
        "half": (x, np.where(hole, 0.5, y)),
        "bool": (x, y == 4),
        "NaN class": (x, np.where(hole, np.nan, y)),
    }
    with pytest.raises(ClusteringError):
        takers(fitted)[taker](*values[wrong])


def test_vectors_of_another_width_and_models_that_know_nothing(fitted):
    x, y = blobs()
    wide = np.hstack([x, x])
    for step in (fitted.transform, fitted.predict, fitted.score_samples, lambda v: fitted.distances(v, 0)):
        with pytest.raises(ClusteringError, match="6 numbers instead of 3"):
            step(wide)
        with pytest.raises(ClusteringError, match="NaN or infinite"):
            step(x * np.nan)
        with pytest.raises(ClusteringError, match="NaN or infinite"):
            step(x * np.float32(1e30))
    for step in (
        lambda: fitted.scaled_distance(wide, y),
        lambda: fitted.calibrate(wide, y),
        lambda: fitted.distances(x, 7),
        lambda: fitted.distances(x, -1),
        lambda: ClassKMeans().predict(x),
        lambda: ClassKMeans().save("nowhere"),
        lambda: fitted.tail_probability(np.full(3, np.nan), np.zeros(3)),
        lambda: fitted.tail_probability(np.ones(3), np.zeros(2)),
        lambda: fitted.tail_probability(np.ones(1), [255]),
        lambda: fitted.calibration_quantile(np.zeros(3), 2),
        lambda: fitted.calibration_quantile(np.zeros(3), np.nan),
        lambda: ClassKMeans().fit(x[:0], y[:0]),
    ):
        with pytest.raises(ClusteringError):
            step()
    assert fitted.transform(x[:0]).shape == (0, 19)


def test_the_same_model_gives_the_same_bytes(fitted, tmp_path):
    once = [fitted.save(tmp_path / f"{i}.safetensors").read_bytes() for i in range(8)]
    assert len(set(once)) == 1
    loaded = ClassKMeans.load(tmp_path / "0.safetensors")
    assert loaded.save(tmp_path / "again.safetensors").read_bytes() == once[0]


def rewritten(fitted, path, arrays=None, **metadata):
    """A saved model with some arrays (None: left out) and header values replaced."""
    fitted.save(path)
    with safe_open(str(path), "numpy") as stream:
        had = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        header = {**stream.metadata(), **metadata}
    del header["sha256"]  # as a file that was made so
    had = {name: array for name, array in {**had, **(arrays or {})}.items() if array is not None}
    save_file({name: np.ascontiguousarray(array) for name, array in had.items()}, path, metadata=header)
    return path


F = np.float32


@pytest.mark.parametrize(
    "arrays",
    [
        {"centers.0": np.full((6, 3), np.nan, F)},
        {"centers.0": np.full((6, 3), 1e30, F)},
        {"centers.0": np.ones((6, 4), F)},
        {"centers.4": np.ones((6, 4), F)},
        {"centers.0": np.ones(6, F)},
        {"centers.0": np.ones((0, 3), F)},
        {"centers.0": np.ones((6, 3), np.int32)},
        {"centers.0": None},
        {"centers.19": np.ones((6, 3), F)},
        {"centers.x": np.ones((6, 3), F)},
        {"centers.-1": np.ones((6, 3), F)},
        {"counts.0": np.zeros(6, np.int64)},
        {"counts.0": None},
        {"spreads.0": np.ones(6, F)},
        {"counts.0": np.full(6, -1)},
        {"counts.0": np.ones(6, F)},
        {"counts.4": None},
        {"quantiles.-1": None},
        {"quantiles.0": np.array([2, 1], F)},
        {"quantiles.0": np.array([-1, 1], F)},
        {"quantiles.0": np.array([0, np.nan], F)},
        {"quantiles.0": np.zeros(0, F)},
        {"transform": np.ones(3, F)},
    ],
)
def test_arrays_that_are_not_those_of_a_model(fitted, tmp_path, arrays):
    ClassKMeans.load(rewritten(fitted, tmp_path / "k.safetensors"))  # as it is, it can be read
    with pytest.raises(ClusteringError, match=r"k\.safetensors is not a saved ClassKMeans"):
        ClassKMeans.load(rewritten(fitted, tmp_path / "k.safetensors", arrays))


INERTIA = {"0": 1.0, "4": 1.0, "11": 1.0}


@pytest.mark.parametrize(
    "metadata",
    [
        {"kind": "PixelEmbedder"},
        {"parameters": "[]"},
        {"parameters": "null"},
        {"parameters": "{}"},
        {"parameters": "[" * 9999},
        {"parameters": json.dumps({**ClassKMeans().get_params(), "n_clusters": "6"})},
        {"parameters": json.dumps({**ClassKMeans().get_params(), "other": 6})},
        {"inertia": "{}"},
        {"inertia": "[]"},
        {"inertia": "no json"},
        {"inertia": json.dumps({"0": 1.0})},
        *({"inertia": json.dumps({**INERTIA, "0": value})} for value in (-1.0, float("nan"), float("inf"), 1e80, "1")),
    ],
)
def test_headers_that_are_not_those_of_a_model(fitted, tmp_path, metadata):
    ClassKMeans.load(rewritten(fitted, tmp_path / "k.safetensors", inertia=json.dumps(INERTIA)))
    with pytest.raises(ClusteringError, match=r"k\.safetensors is not a saved ClassKMeans"):
        ClassKMeans.load(rewritten(fitted, tmp_path / "k.safetensors", **metadata))


def test_a_number_that_was_changed(fitted, tmp_path):
    path = fitted.save(tmp_path / "k.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # the last mantissa: a number as plausible as before
    path.write_bytes(content)
    with pytest.raises(ClusteringError, match="has changed since it was written"):
        ClassKMeans.load(path)


def test_files_of_the_last_version_are_refused_in_a_sentence(fitted, tmp_path):
    parameters = json.dumps({**ClassKMeans().get_params(), "spread": "class", "refit_per_image": False})
    path = rewritten(fitted, tmp_path / "k.safetensors", parameters=parameters, state="{}")
    with pytest.raises(ClusteringError, match="its parameters are not those of this version.; fit it anew"):
        ClassKMeans.load(path)
