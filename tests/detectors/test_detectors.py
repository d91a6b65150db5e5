"""The detectors: what each formula gives on simple cases, and that unusual cells score higher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_prediction

from iood_helpers import Prediction
from iood_helpers.detectors import (
    Energy,
    Ensemble,
    Entropy,
    FeatureBank,
    KMeansDistance,
    LogOdds,
    Mahalanobis,
    MaxLogit,
    MaxSoftmax,
    NearestNeighbor,
    NearestNeighborGuidance,
    PerImageClustering,
    SharedKMeansDistance,
    StandardizedMaxLogit,
    ViM,
    as_confidence,
    smoothed,
    stored_bytes,
)
from iood_helpers.errors import RefinementError
from iood_helpers.method.embedder import PixelEmbedder
from iood_helpers.method.store import EmbeddingStore

SIZE = (64, 96)


@pytest.fixture(scope="module")
def bank():
    predictions = [make_prediction(seed, size=SIZE) for seed in range(5)]
    embedder = PixelEmbedder((0, 1), standardize=True)
    raw = [embedder.raw.transform_grid(p).reshape(-1, 7) for p in predictions]
    embedder.fit(np.concatenate(raw))
    predicted = [p.logits.argmax(0).ravel() for p in predictions]
    vectors = [embedder.apply(x) for x in raw]
    return FeatureBank(
        embedder=embedder,
        vectors=np.concatenate(vectors[:3]),
        label=np.concatenate(predicted[:3]),
        calibration_vectors=np.concatenate(vectors[3:]),
        calibration_predicted=np.concatenate(predicted[3:]),
        decoder=np.concatenate([p.decoder.reshape(4, -1).T for p in predictions[:3]]),
        logits=np.concatenate([p.logits.reshape(19, -1).T for p in predictions[:3]]),
    )


def arrays(prediction):
    """The prediction as somebody has it who computes maps elsewhere."""
    return Prediction.from_arrays(
        list(prediction.features), prediction.logits, prediction.shape, decoder=prediction.decoder
    )


def test_a_bank_of_arrays_is_that_made_by_hand(bank):
    images = [arrays(make_prediction(seed, size=SIZE)) for seed in range(5)]
    own = FeatureBank.from_predictions(images[:3], images[3:], levels=(0, 1))
    np.testing.assert_array_equal(own.label, bank.label)
    for name in ("decoder", "logits"):
        np.testing.assert_array_equal(getattr(own, name), getattr(bank, name))
    raw = np.concatenate([own.embedder.raw.transform_grid(p).reshape(-1, 7) for p in images[:3]])
    np.testing.assert_allclose(own.embedder.mean_, raw.mean(0), atol=1e-5)  # calibration images are not learned from
    np.testing.assert_allclose(own.vectors.std(0), 1, atol=1e-3)
    assert own.calibration_vectors.shape == bank.calibration_vectors.shape and len(own.calibration_images) == 2
    np.testing.assert_array_equal(own.calibration_predicted, bank.calibration_predicted)


def test_labels_of_pixels_are_read_at_the_cells_and_void_is_left_out(bank):
    images = [make_prediction(seed, size=SIZE) for seed in range(3)]
    labels = [np.full(SIZE, number, np.uint8) for number in range(2)]
    labels[1][:, :48] = 255
    own = FeatureBank.from_predictions(images[:2], images[2:], labels=labels)
    cells = images[0].logits[0].size
    assert np.bincount(own.label).tolist() == [cells, cells // 2]
    assert len(own.vectors) == len(own.decoder) == len(own.logits) == len(own.label)
    right_half = images[1].logits[:, :, 12:].reshape(19, -1).T
    np.testing.assert_array_equal(own.logits[cells:], right_half)


def all_scores():
    return [
        *(MaxSoftmax(), MaxLogit(), LogOdds(), Energy(), Entropy(), StandardizedMaxLogit(), Mahalanobis(), ViM(2)),
        *(NearestNeighbor(k=3, bank_size=300), NearestNeighborGuidance(k=3, bank_size=300)),
        *(KMeansDistance(3), SharedKMeansDistance(20), PerImageClustering(n_clusters=4)),
    ]


@pytest.mark.parametrize("score", all_scores(), ids=lambda s: type(s).__name__)
def test_every_score_has_the_one_signature(bank, score):
    prediction = make_prediction(9, size=SIZE)
    values = score.fit(bank).score(prediction)
    assert values.shape == prediction.logits.shape[1:] and np.isfinite(values).all() and values.std() > 0
    np.testing.assert_allclose(values, score.score(prediction), rtol=1e-4, atol=1e-5)  # nothing is drawn anew
    np.testing.assert_allclose(values, score.score(arrays(prediction)), rtol=1e-4, atol=1e-5)


def test_formulas_on_one_cell():
    p = make_prediction(size=(32, 32))
    logits = np.zeros_like(p.logits)
    logits[3] = 2.0
    p = replace(p, logits=logits)
    top = np.exp(2) / (np.exp(2) + 18)
    rest = (1 - top) / 18
    np.testing.assert_allclose(MaxSoftmax().score(p), 1 - top, rtol=1e-5)
    np.testing.assert_allclose(MaxLogit().score(p), -2)
    np.testing.assert_allclose(Energy().score(p), -np.log(np.exp(2) + 18), rtol=1e-5)
    np.testing.assert_allclose(Entropy().score(p), -top * np.log(top) - 18 * rest * np.log(rest), rtol=1e-5)


def far(prediction):
    """Features and decoder far from anything in the bank, in the left half."""
    features = tuple(f.copy() for f in prediction.features)
    for f in features:
        f[:, :, : f.shape[2] // 2] += 30
    decoder = prediction.decoder.copy()
    decoder[:, :, : decoder.shape[2] // 2] += 30 * np.array([1, -1, 1, -1])[:, None, None]
    return replace(prediction, features=features, decoder=decoder)


@pytest.mark.parametrize("score", [Mahalanobis(), ViM(2), KMeansDistance(3)], ids=lambda s: type(s).__name__)
def test_far_features_score_higher(bank, score):
    values = score.fit(bank).score(far(make_prediction(9, size=SIZE)))
    assert values[:, :10].min() > values[:, 14:].max()


def test_the_nearest_neighbour_of_a_bank_pixel_is_itself(bank):
    values = NearestNeighbor(k=1, bank_size=10**6).fit(bank).score(make_prediction(1, size=SIZE))
    assert values.max() < 1e-2
    assert NearestNeighbor(k=1, bank_size=10**6).fit(bank).score(make_prediction(9, size=SIZE)).mean() > 0.05


def test_mahalanobis_is_the_textbook_formula(bank):
    prediction = make_prediction(9, size=SIZE)
    means = {c: bank.vectors[bank.label == c].mean(0) for c in np.unique(bank.label)}
    centered = np.stack([x - means[c] for x, c in zip(bank.vectors, bank.label, strict=True)])
    inverse = np.linalg.inv(centered.T @ centered / len(centered))
    x = bank.embedder.transform_grid(prediction)[3, 5]
    wanted = min((x - m) @ inverse @ (x - m) for m in means.values())
    assert Mahalanobis().fit(bank).score(prediction)[3, 5] == pytest.approx(wanted, rel=1e-3)


def test_standardized_max_logit_measures_by_class(bank):
    score = StandardizedMaxLogit().fit(bank)
    predicted, largest = bank.logits.argmax(1), bank.logits.max(1)
    c = np.bincount(predicted).argmax()
    assert score.mean_[c] == pytest.approx(largest[predicted == c].mean(), rel=1e-5)
    assert score.scale_[c] == pytest.approx(largest[predicted == c].std(), rel=1e-5)


def test_a_sum_weighs_its_parts_alike(bank):
    images = [make_prediction(seed, size=SIZE) for seed in (6, 7)]
    with pytest.raises(RefinementError, match="give the bank calibration images"):
        Ensemble(Energy()).fit(bank)
    both = Ensemble(Energy(), KMeansDistance(3)).fit(replace(bank, calibration_images=images))
    parts = [(s.score(images[0]) - m) / d for s, (m, d) in zip(both.detectors, both.moments_, strict=True)]
    np.testing.assert_allclose(both.score(images[0]), parts[0] + parts[1], rtol=1e-5)
    pooled = np.concatenate([both.detectors[1].score(p).ravel() for p in images])
    assert both.moments_[1] == pytest.approx((pooled.mean(), pooled.std()), rel=1e-4)


def test_ensembles_fit_what_they_share_once(bank):
    class Counted(KMeansDistance):
        fits = 0

        def fit(self, bank):
            type(self).fits += 1
            return super().fit(bank)

    images = [make_prediction(6, size=SIZE)]
    shared = Counted(3)
    one = Ensemble(shared, shared, Energy()).fit(replace(bank, calibration_images=images))
    two = Ensemble(Ensemble(shared, Mahalanobis()), MaxLogit()).fit(replace(bank, calibration_images=images))
    assert Counted.fits == 1
    assert one.moments_[0] == one.moments_[1] and two.score(images[0]).std() > 0


def test_log_odds_rank_as_the_softmax_does():
    p = make_prediction(9, size=SIZE)
    confidence = 1 - MaxSoftmax().score(p)
    np.testing.assert_allclose(LogOdds().score(p), np.log((1 - confidence) / confidence), atol=1e-4)


def test_guidance_is_the_textbook_formula(bank):
    score = NearestNeighborGuidance(k=2, bank_size=50).fit(bank)
    chosen = np.random.default_rng(0).permutation(len(bank.vectors))[:50]
    energy = np.log(np.exp(bank.logits).sum(1))
    p = make_prediction(9, size=SIZE)
    x = bank.embedder.transform_grid(p)[3, 5]
    cosine = bank.vectors[chosen] @ x / np.linalg.norm(bank.vectors[chosen], axis=1) / np.linalg.norm(x)
    own = np.log(np.exp(p.logits[:, 3, 5]).sum())
    assert energy.min() > 0
    assert score.score(p)[3, 5] == pytest.approx(-own * np.sort(cosine * energy[chosen])[-2:].mean(), rel=1e-4)


def store(path, vectors, rng):
    """Store of raw vectors of two images, with labels by turns."""
    made = EmbeddingStore.open_or_create(path, {0: 3, 1: 4, "decoder": 4, "logits": 19}, {})
    for name, part in zip("ab", np.array_split(vectors, 2), strict=True):
        classes = rng.permutation(np.arange(len(part)) % 19).astype(np.uint8)
        rows = {"embeddings": part, "label": classes, "predicted": classes[::-1]}
        rows |= {"pixel": np.zeros((len(part), 2), np.int32), "confidence": np.ones(len(part), np.float32)}
        made.append(name, rows)
    made.finish()
    return EmbeddingStore.open(path)


def test_a_bank_reads_the_levels_it_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    rows, calibration = (rng.normal(2, 3, (n, 30)).astype(np.float32) for n in (200, 80))
    stores = store(tmp_path / "fit", rows, rng), store(tmp_path / "calibration", calibration, rng)
    plain = FeatureBank.from_stores(*stores, (1, "decoder"), standardize=False)
    np.testing.assert_array_equal(plain.vectors, rows[:, 3:11])
    np.testing.assert_array_equal(plain.calibration_vectors, calibration[:, 3:11])
    np.testing.assert_array_equal(plain.decoder, rows[:, 7:11])
    np.testing.assert_array_equal(plain.logits, rows[:, 11:])
    np.testing.assert_array_equal(plain.label, stores[0].load().label)
    np.testing.assert_array_equal(plain.calibration_predicted, stores[1].load().predicted)
    scaled = FeatureBank.from_stores(*stores, (0,), 4, seed=1)
    assert np.bincount(scaled.label).tolist() == [4] * 19
    np.testing.assert_allclose(scaled.vectors.mean(0), 0, atol=1e-5)
    assert scaled.vectors.shape[1] == 3 and scaled.logits.shape == (76, 19)
    p = make_prediction(9, size=SIZE)
    wanted = np.concatenate([p.features[1][:, 0, 0], p.decoder[:, 0, 0]])
    assert np.abs(plain.embedder.transform_grid(p)[0, 0] - wanted).max() < 1e-4


def test_as_confidence_falls_strictly_and_far_out_too():
    values = np.array([-1e4, -3, 0, 1, 5, 100, 110, 1e4])
    confidence = as_confidence(values, center=1, scale=2)
    assert (np.diff(np.round(confidence * 65535)) < 0).all() and confidence[3] == 0.5


def test_stored_bytes_counts_arrays_once_fitted(bank):
    assert stored_bytes(Energy().fit(bank)) == 0
    few, many = (KMeansDistance(k).fit(bank) for k in (1, 6))
    more = sum(len(c) for c in many.kmeans_.centers_.values()) - len(few.kmeans_.centers_)
    assert more > 19 and stored_bytes(many) - stored_bytes(few) == more * (7 * 4 + 8)  # centre, count
    assert stored_bytes(NearestNeighbor(bank_size=100).fit(bank)) == 100 * 7 * 4


def test_smoothing_keeps_the_mean():
    values = np.random.default_rng(0).normal(5, 1, (40, 40))
    assert smoothed(values, 3).mean() == pytest.approx(5, abs=0.1) and smoothed(values, 3).std() < 0.3
