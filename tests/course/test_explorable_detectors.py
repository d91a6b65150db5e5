"""Detectors side by side: what the figure shows in a browser equals what Python computes on the same maps."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_prediction
from sklearn.metrics import average_precision_score
from test_explorables import decode

from iood_helpers import detectors, load_dataset, load_segmenter
from iood_helpers.bravo.histograms import auroc, average_precision
from iood_helpers.course import explorables, side_by_side
from iood_helpers.method.distances import upsample

NAMES = ("log-odds", "energy", "entropy")
SIGMA = 4.0
CASES = [(0, 0, 0, 1, 0), (0, 0, 0, 0, 1), (1, 1, 1, 2, 0), (3, 2, 1, 2, 1)]
"""Scene, and detector and averaging of the left and the right side."""
FIGURE = "document.querySelector('.iood-explorable')"


@pytest.fixture(scope="module")
def shown():
    """Scenes of the shipped data as the small network sees them: samples, predictions, detectors, and the content."""
    segmenter, predictions = load_segmenter("nano", device="cpu"), []
    keeping = SimpleNamespace(
        predict=lambda image: predictions.append(segmenter.predict(image)) or predictions[-1],
    )
    compared = detectors.Comparison(
        dict(zip(NAMES, (detectors.LogOdds(), detectors.Energy(), detectors.Entropy()), strict=True))
    )
    compared.fit(None, [segmenter.predict(load_dataset("mini/train-calibration", limit=1)[0].image())])
    scenes = side_by_side.scenes_with_objects(["mini/SMIYC", "mini/synobjs"])
    content = side_by_side.side_by_side(compared, scenes, keeping, SIGMA, ("energy", "log-odds"))
    return SimpleNamespace(scenes=scenes, predictions=predictions, compared=compared, content=content)


def maps_of(scene):
    """Kinds (h, w), and levels {(detector, averaged): (h, w)}."""
    size = scene["rows"], scene["columns"]
    levels = {(i, k): decode(one, *size) for i, pair in enumerate(scene["maps"]) for k, one in enumerate(pair)}
    return decode(scene["kinds"], *size), levels


def numbers_of(kinds, levels):
    """Metrics of one map of levels, higher is more unusual."""

    def counts(where):
        return np.bincount(levels[where], minlength=60)

    unknown, known, wrong, right = (counts(where) for where in (kinds == 2, kinds < 2, kinds == 1, kinds == 0))
    return {"ap": average_precision(unknown, known), "unknown": auroc(unknown, known), "wrong": auroc(wrong, right)}


def test_scenes_come_from_where_right_and_wrong_are_known_and_differ_in_size(shown):
    assert [split for split, _ in shown.scenes] == ["mini/synobjs"] * 4
    shares = [sample.invalid().mean() for _, sample in shown.scenes]
    assert shares == sorted(shares, reverse=True) and shares[0] > 10 * shares[-1] > 0
    few = side_by_side.scenes_with_objects(["mini/SMIYC", "mini/synobjs"], limit=1)
    assert {split for split, _ in few} == {"mini/synobjs", "mini/SMIYC"}
    none = side_by_side.scenes_with_objects(["mini/val"], limit=2)
    assert len(none) == 2 and not any(sample.invalid().any() for _, sample in none)
    assert side_by_side.scenes_with_objects(["mini/val"], limit=2, number=1) == none[:1]


def test_levels_say_how_rare_a_score_is_and_keep_its_metrics(shown):
    names, decoded = shown.content["detectors"], [maps_of(scene) for scene in shown.content["scenes"]]
    assert names == list(NAMES)
    for i, name in enumerate(names):
        for averaged in (0, 1):
            scores = []
            for prediction in shown.predictions:
                cells = shown.compared.detectors[name].score(prediction)
                cells = detectors.smoothed(cells, SIGMA) if averaged else cells
                scores.append(upsample(cells, prediction.shape)[::4, ::4])
            every = np.sort(np.concatenate([one.ravel() for one in scores]))
            for one, (kinds, levels) in zip(scores, decoded, strict=True):
                as_high = (every.size - np.searchsorted(every, one)) / every.size
                assert (levels[i, averaged] == np.minimum(np.floor(-6 * np.log2(as_high)), 59)).all()
                exact = average_precision_score(kinds[kinds < 3] == 2, one[kinds < 3])
                assert numbers_of(kinds, levels[i, averaged])["ap"] == pytest.approx(exact, abs=0.03)
    for (_, sample), prediction, (kinds, _) in zip(shown.scenes, shown.predictions, decoded, strict=True):
        unknown, right = sample.invalid(), prediction.classes == sample.label()
        assert (kinds == np.where(unknown, 2, np.where(right, 0, 1))[::4, ::4]).all()


def test_equal_scores_are_as_rare_as_the_least_of_them():
    """Half of the pixels score at least 7, and three quarters at least 5; and a map of one value says nothing."""
    maps = [np.array([[7.0, 7.0], [5.0, 1.0]]), np.array([[7.0, 7.0], [5.0, 1.0]])]
    for levels in side_by_side._rarity(maps):
        assert levels.tolist() == [[6, 6], [2, 0]]  # sixths of a halving
    assert not np.any(side_by_side._rarity([np.ones((4, 4))]))


def test_what_the_notebook_says_of_the_log_odds_holds(shown):
    numbers = []
    for scene in shown.content["scenes"]:
        kinds, levels = maps_of(scene)
        numbers.append([numbers_of(kinds, levels[0, averaged]) for averaged in (0, 1)])
    assert all(averaged["wrong"] < plain["wrong"] - 0.02 for plain, averaged in numbers)
    assert numbers[0][1]["ap"] > numbers[0][0]["ap"] + 0.05 and numbers[-1][1]["ap"] < numbers[-1][0]["ap"]


def test_data_is_small(shown):
    """Seventeen detectors on four scenes load when one scrolls to them; those of the logits have the finest maps."""
    whole = len(json.dumps(shown.content))
    maps = sum(len(text) for scene in shown.content["scenes"] for pair in scene["maps"] for text in pair)
    assert whole - maps + 17 * maps / len(NAMES) < 320_000


def test_large_images_are_thinned_and_labels_that_mean_nothing_left_out(monkeypatch):
    sample = load_dataset("mini/SMIYC", limit=1)[0]
    prediction, wide = make_prediction(0, (250, 480)), np.zeros((250, 480), bool)
    wide[:50], label = True, np.zeros((250, 480), np.uint8)
    label[100:], void = 255, np.zeros_like(wide)
    void[:10] = True
    stand_in = SimpleNamespace(
        name="a/b",
        image=lambda: np.zeros((250, 480, 3), np.uint8),
        label=lambda: label,
        invalid=lambda: wide,
        void=lambda: void,
    )
    compared = detectors.Comparison({"energy": detectors.Energy()}).fit(None, [prediction])
    segmenter = SimpleNamespace(predict=lambda image: prediction)
    scenes = [("mini/SMIYC", stand_in), ("mini/synobjs", stand_in)]
    benchmark, other = side_by_side.side_by_side(compared, scenes, segmenter, 1.0, ("energy", "energy"))["scenes"]
    assert sample.label() is not None and not benchmark["labelled"] and other["labelled"]
    assert (other["rows"], other["columns"], other["step"]) == (50, 96, 5)
    kinds = maps_of(benchmark)[0]
    assert (kinds[2:10] == 2).all() and (kinds[10:20] == 0).all()
    assert (kinds[:2] == 3).all() and (kinds[20:] == 3).all()  # what does not count does not count as unknown
    assert benchmark["title"] == "b: 20.0\u00a0% unknown"
    assert set(np.unique(maps_of(other)[0][10:20])) == {0, 1}
    label = None
    (bare,) = side_by_side.side_by_side(compared, scenes[1:], segmenter, 1.0, ("energy", "energy"))["scenes"]
    assert not bare["labelled"] and (maps_of(bare)[0][10:] == 0).all()


chromium = pytest.importorskip("chromium", reason="websocket-client is not installed")


@pytest.fixture(scope="module")
def tab(shown, tmp_path_factory):
    """A page with the figure as a notebook shows it; its last scene has no unknown pixel, and no label."""
    if chromium.find() is None:
        pytest.skip("no Chromium on this machine")
    content, pieces = copy.deepcopy(shown.content), []
    bare = copy.deepcopy(content["scenes"][0])
    kinds = np.zeros((bare["rows"], bare["columns"]), np.uint8)
    content["scenes"].append(bare | {"title": "bare", "labelled": False, "kinds": explorables.encode_map(kinds)})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("IOOD_BOOK", raising=False)
        patch.setattr(explorables, "display", lambda thing: pieces.append(thing.data))
        explorables.show_explorable("detectors", content, text="Choose two.")
    folder = tmp_path_factory.mktemp("page")
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    (folder / "page.html").write_text(head + pieces[0])
    with chromium.tab(tmp_path_factory.mktemp("browser")) as tab:
        tab.resize(900)
        tab.visit((folder / "page.html").as_uri())
        tab.wait(f"{FIGURE}.dataset.ready")
        yield tab


def choose(tab, case):
    """Set the five lists and give the numbers that are shown then."""
    lists = f"{FIGURE}.querySelectorAll('select')"
    for i, value in enumerate(case):
        tab.run(f"{lists}[{i}].value = {value}, {lists}[{i}].dispatchEvent(new Event('change'))")
    tab.wait(f"{FIGURE}.dataset.ready === '{' '.join(map(str, case))}'")
    numbers = f"[...{FIGURE}.querySelectorAll('[data-number]')].map((one) => [one.dataset.number, one.textContent])"
    return dict(tab.run(numbers))


def test_what_is_asked_for_is_shown_first(tab):
    assert tab.run(f"{FIGURE}.dataset.ready") == "0 1 0 0 0"  # energy and log-odds


@pytest.mark.parametrize("case", CASES, ids=str)
def test_numbers_and_bars_are_those_of_the_maps(tab, shown, case):
    scene, *chosen = case
    seen = choose(tab, case)
    kinds, levels = maps_of(shown.content["scenes"][scene])
    heights = tab.run(f"""[...{FIGURE}.querySelectorAll('svg')].map((svg) =>
        [...svg.querySelectorAll('rect')].map((bar) => Number(bar.getAttribute('height'))))""")
    for side, key in (("left", tuple(chosen[:2])), ("right", tuple(chosen[2:]))):
        expected = {f"{side}-{name}": float(value) for name, value in numbers_of(kinds, levels[key]).items()}
        assert {name: float(seen[name]) for name in expected} == pytest.approx(expected, abs=6e-4)
        for where in (kinds == 2, kinds < 2):
            bars = np.bincount(levels[key][where] // 3, minlength=20) / where.sum()
            drawn = np.array(heights.pop(0))
            np.testing.assert_allclose(drawn / drawn.sum(), bars, atol=1e-6)
    said = tab.run(f"{FIGURE}.querySelector('.iood-sentence').textContent")
    aps = [float(seen[f"{side}-ap"]) for side in ("left", "right")]
    assert ("better than" in said) == (round(aps[0], 2) > round(aps[1], 2))


def test_a_map_is_bright_where_its_level_is_high(tab, shown):
    choose(tab, (0, 1, 0, 2, 1))
    levels = maps_of(shown.content["scenes"][0])[1][1, 0]
    pixels = tab.run(f"""(() => {{
        const canvas = {FIGURE}.querySelectorAll('canvas')[1];
        return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
    }})()""")
    inside = np.array(pixels).reshape(4 * levels.shape[0], -1, 4)[2::4, 2::4]  # outlines run along the edges
    assert (inside[levels == 0, :3] == (0, 34, 78)).all() and (inside[levels == 59, :3] == (254, 232, 56)).all()
    bright = inside[..., :3].sum(-1)
    assert (np.diff([bright[levels == level].mean() for level in np.unique(levels)]) >= 0).all()


def test_where_nothing_is_to_be_told_apart_no_number_is_given(tab):
    seen = choose(tab, (4, 0, 0, 1, 0))
    assert set(seen.values()) == {"not measured"} and len(seen) == 6
    said = tab.run(f"{FIGURE}.querySelector('.iood-sentence').textContent")
    assert "no unknown pixel" in said and "not known here" in said


def test_keys_choose_and_a_phone_shows_all(tab):
    choose(tab, (0, 0, 0, 0, 0))
    tab.run(f"{FIGURE}.querySelectorAll('select')[3].focus()")
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key="ArrowDown", code="ArrowDown", windowsVirtualKeyCode=40)
    tab.wait(f"{FIGURE}.dataset.ready === '0 0 0 1 0'")
    tab.resize(390)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    labels = f"[...{FIGURE}.querySelectorAll('select')].every((one) => one.labels.length === 1)"
    drawn = f"[...{FIGURE}.querySelectorAll('canvas, svg')].every((one) => one.getAttribute('aria-label'))"
    assert tab.run(labels) and tab.run(drawn)
    assert not tab.happened("Runtime.exceptionThrown")
