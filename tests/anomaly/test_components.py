"""Component metrics: hand-made cases, and a slow reference that follows the paper's definitions pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from iood_helpers.anomaly import ANOMALY_TRACK, OBSTACLE_TRACK, AnomalyAccumulator, ComponentAccumulator, Track
from iood_helpers.anomaly.components import LIMITS, component_scores
from iood_helpers.errors import MetricsError

ANY = Track(1, 1)


def picture(text: str) -> np.ndarray:
    return np.array([list(row) for row in text.split()])


def scores_of(text: str, track: Track = ANY):
    """``o``: anomaly, ``x``: predicted, ``b``: both, ``v``: void, ``w``: void and predicted."""
    signs = picture(text)
    return component_scores(np.isin(signs, list("xbw")), np.isin(signs, list("ob")), np.isin(signs, list("vw")), track)


# the definitions, literally


def pieces(pixels: set) -> list[set]:
    """Connected sets of pixels: neighbors share a side or a corner."""
    left, found = set(pixels), []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            piece.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge.extend(near)
        found.append(piece)
    return found


def reference(predicted, anomaly, void, track):
    """SIoU and PPV by sets of pixels, after Chan et al. (2021), equations 3 and 4."""
    roi = set(map(tuple, np.argwhere(~void)))
    truth = pieces(set(map(tuple, np.argwhere(anomaly))) & roi)
    found = [p for p in pieces(set(map(tuple, np.argwhere(predicted))) & roi) if len(p) >= track.min_predicted]
    for piece in truth:
        if len(piece) < track.min_true:
            roi -= piece
    truth = [piece for piece in truth if len(piece) >= track.min_true]
    found = [piece & roi for piece in found if piece & roi]
    everything = set().union(*truth)
    siou = []
    for k in truth:
        overlapping = set().union(*(piece for piece in found if piece & k))
        others = everything - k
        siou.append(len(k & overlapping) / len((k | overlapping) - (others & overlapping)))
    return sorted(siou), sorted(len(piece & everything) / len(piece) for piece in found)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("track", [ANY, Track(12, 5)])
def test_components_are_compared_as_the_paper_defines(seed, track):
    rng = np.random.default_rng(seed)
    noise = [uniform_filter(rng.normal(size=(24, 30)), size) for size in rng.integers(2, 6, 2)]
    anomaly, predicted = (field > np.quantile(field, 0.75) for field in noise)
    predicted |= anomaly & (rng.random(anomaly.shape) < 0.6)
    void = uniform_filter(rng.normal(size=(24, 30)), 5) > 0.25
    found = component_scores(predicted, anomaly, void, track)
    expected = reference(predicted, anomaly, void, track)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.sort(ours), theirs, atol=1e-12)


# by hand


def test_an_object_found_exactly_and_a_false_alarm():
    siou, ppv = scores_of("bb... bb... ..... ...xx")
    assert siou.tolist() == [1] and sorted(ppv.tolist()) == [0, 1]


def test_a_prediction_over_two_objects_is_not_held_against_either():
    """Without the correction, each would have 4 / 9."""
    siou, ppv = scores_of("bbxbb bbxbb")
    assert siou.tolist() == [4 / 6, 4 / 6] and ppv.tolist() == [8 / 10]


def test_two_predictions_of_one_object_count_together():
    siou, ppv = scores_of("bbobb bbobb")
    assert siou.tolist() == [8 / 10] and ppv.tolist() == [1, 1]


def test_corners_connect():
    siou, ppv = scores_of("b.... .b... ..b..")
    assert len(siou) == len(ppv) == 1


def test_void_counts_nowhere():
    siou, ppv = scores_of("bbww. bbww. ..vv.")
    assert siou.tolist() == ppv.tolist() == [1]
    assert [len(part) for part in scores_of("ww.. ..vv")] == [0, 0]


def test_small_predictions_are_dropped_and_small_objects_void():
    signs = "bb..o bb... ....x"
    assert scores_of(signs, Track(2, 2)).siou.tolist() == [1]
    assert scores_of(signs, Track(2, 2)).ppv.tolist() == [1]
    assert sorted(scores_of(signs, ANY).siou.tolist()) == [0, 1]
    # a prediction on an object that is too small is neither right nor a false alarm
    assert [len(part) for part in scores_of("bb... .....", Track(1, 3))] == [0, 0]


def test_sizes_of_the_tracks():
    assert (ANOMALY_TRACK.min_predicted, ANOMALY_TRACK.min_true) == (500, 100)
    assert (OBSTACLE_TRACK.min_predicted, OBSTACLE_TRACK.min_true) == (50, 10)
    assert LIMITS.tolist() == pytest.approx([0.25 + 0.05 * i for i in range(11)])


# sums


def image(seed):
    rng = np.random.default_rng(seed)
    anomaly = uniform_filter(rng.normal(size=(60, 80)), 9) > 0.12
    scores = uniform_filter(rng.normal(size=anomaly.shape) + 2 * anomaly, 5)
    return scores, anomaly, rng.random(anomaly.shape) < 0.02


def test_f1_is_averaged_over_limits_and_counted_over_images():
    images = [image(seed) for seed in range(4)]
    counts = ComponentAccumulator(0.8, Track(9, 5))
    siou, ppv = [], []
    for scores, anomaly, void in images:
        counts.update(scores, anomaly, void)
        one, other = reference(scores.astype(np.float32) > np.float32(0.8), anomaly, void, counts.track)
        siou, ppv = siou + one, ppv + other
    f1 = []
    for limit in LIMITS:
        found, missed = sum(s >= limit for s in siou), sum(s < limit for s in siou)
        false = sum(p < limit for p in ppv)
        f1.append(2 * found / (2 * found + missed + false))
    expected = {"siou": np.mean(siou), "ppv": np.mean(ppv), "f1": np.mean(f1)}
    expected |= {"f1_25": f1[0], "f1_50": f1[5], "f1_75": f1[10]}
    assert counts.compute() == pytest.approx(expected, abs=1e-12)
    assert counts.components.tolist() == [len(siou), len(ppv)] and 0.1 < expected["f1"] < 0.95


def test_at_the_limit_an_object_is_found_and_an_alarm_is_right():
    scores, anomaly = np.zeros((6, 6)), np.zeros((6, 6), bool)
    anomaly[0, :2], scores[0, 1:3] = True, 1  # one of two pixels is predicted, and one beside them
    anomaly[3:5, 0], scores[3, 0] = True, 1
    result = ComponentAccumulator(0.5, ANY).update(scores, anomaly).compute()
    assert result["siou"] == pytest.approx((1 / 3 + 1 / 2) / 2) and result["ppv"] == 0.75
    assert (result["f1_25"], result["f1_50"], result["f1_75"]) == (1, 2 / 3, 0)


def test_merging_is_pooling():
    images = [image(seed) for seed in range(4)]
    whole, one, other = (ComponentAccumulator(0.8, Track(9, 5)) for _ in range(3))
    for number, each in enumerate(images):
        whole.update(*each)
        (one if number % 2 else other).update(*each)
    assert one.merge(other).compute() == pytest.approx(whole.compute(), abs=1e-12)
    for stranger in (ComponentAccumulator(0.7, Track(9, 5)), ComponentAccumulator(0.8)):
        with pytest.raises(MetricsError, match="cannot be added"):
            whole.merge(stranger)


def test_the_threshold_of_the_best_f1_cuts_where_the_pixels_say():
    scores, anomaly, void = image(0)
    threshold = AnomalyAccumulator().update(scores, anomaly, void=void).best_f1_threshold()
    flat, truth = scores[~void].astype(np.float32), anomaly[~void]

    def f1(limit):
        hits = (truth & (flat > limit)).sum()
        return 2 * hits / ((flat > limit).sum() + truth.sum())

    assert f1(threshold) == max(f1(np.nextafter(value, np.float32(-np.inf))) for value in np.unique(flat))
    assert f1(np.float32(threshold)) > f1(np.nextafter(np.float32(threshold), np.float32(np.inf)))


def test_without_objects_there_are_no_metrics_and_without_predictions_no_precision():
    scores, anomaly = np.zeros((20, 20)), np.zeros((20, 20), bool)
    counts = ComponentAccumulator(0.5, name="nowhere").update(scores, anomaly)
    with pytest.raises(MetricsError, match=r"of nowhere are not defined, since no anomaly has 100 pixels"):
        counts.compute()
    anomaly[:10, :12] = True
    result = counts.update(scores, anomaly).compute()
    assert result["siou"] == result["f1"] == 0 and np.isnan(result["ppv"])
