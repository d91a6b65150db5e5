"""The map of pixels: its data are small, and what a browser shows of a pixel is what Python knows of it."""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_explorables import decode

from iood_helpers import ClassKMeans, load_dataset
from iood_helpers.course.patches import cut_patch, scaled
from iood_helpers.course.pixel_map import UNKNOWN, MappedPixel, pixel_map, stored_pixels
from iood_helpers.course.plots import OOD_COLOR
from iood_helpers.datasets.labels import CLASS_NAMES

NAMES = [*CLASS_NAMES, "unknown object"]
MARGIN = 14


def made(count, unknown, seed=0):
    """Pixels of shipped scenes with made-up vectors, and clusters: what ``pixel_map`` takes."""
    rng = np.random.default_rng(seed)
    samples = load_dataset("mini/train-fit")
    pixels = []
    for i in range(count):
        sample = samples[int(rng.integers(len(samples)))]
        at = int(rng.integers(192)), int(rng.integers(384))
        true = UNKNOWN if i >= count - unknown else int(rng.integers(19))
        predicted = true if true < UNKNOWN and rng.random() < 0.8 else int(rng.integers(19))
        pixels.append(MappedPixel(sample, at, true, predicted, float(rng.uniform(0.2, 1))))
    y = np.repeat(np.arange(18), 60)  # no centres for the last class
    centers = rng.normal(size=(19, 6)) * 3
    kmeans = ClassKMeans(4, n_init=1).fit(centers[y] + rng.normal(size=(len(y), 6)), y)
    kmeans.calibrate(centers[y] + rng.normal(size=(len(y), 6)), y)
    predicted = np.array([pixel.predicted for pixel in pixels])
    vectors = (centers[predicted] + 1.2 * rng.normal(size=(count, 6))).astype(np.float32)
    return rng.uniform(-4, 9, (count, 2)), vectors, pixels, kmeans


def unpacked(text, count):
    high, low = decode(text, 2, count)
    return 256 * high + low


@pytest.fixture(scope="module")
def small():
    return made(300, 40)


@pytest.fixture(scope="module")
def content(small):
    return pixel_map(*small)


def expected(small):
    """Predicted class, distance and cluster of each pixel, from the clusters themselves."""
    _, vectors, pixels, kmeans = small
    predicted = np.array([pixel.predicted for pixel in pixels])
    distance = kmeans.scaled_distance(vectors, predicted) / kmeans.calibration_quantile(predicted, 0.85)
    return predicted, distance, kmeans.predict_cluster(vectors, predicted)


def test_the_columns_hold_what_is_known_of_the_pixels(small, content):
    points, _, pixels, _ = small
    columns = {name: unpacked(text, content["count"]) for name, text in content["points"].items()}
    predicted, distance, cluster = expected(small)
    assert np.ptp(columns["x"]) == np.ptp(columns["y"]) == 999
    assert (
        np.corrcoef(columns["x"], points[:, 0])[0, 1] > 0.9999
        and np.corrcoef(columns["y"], points[:, 1])[0, 1] > 0.9999
    )
    assert columns["true"].tolist() == [pixel.true for pixel in pixels] and (columns["predicted"] == predicted).all()
    assert columns["confidence"] / 1000 == pytest.approx(np.array([pixel.confidence for pixel in pixels]), abs=6e-4)
    assert columns["distance"] / 100 == pytest.approx(distance, abs=6e-3) and (columns["cluster"] == cluster + 1).all()
    assert (columns["cluster"][predicted == 18] == 0).all() and (predicted == 18).any()
    assert columns["row"] / 255 == pytest.approx([pixel.pixel[0] / 192 for pixel in pixels], abs=3e-3)
    assert columns["column"] / 255 == pytest.approx([pixel.pixel[1] / 384 for pixel in pixels], abs=3e-3)
    scenes = {number: pixel.sample for number, pixel in zip(columns["scene"].tolist(), pixels, strict=True)}
    assert len(scenes) == len(content["shapes"]) == len({pixel.sample.name for pixel in pixels})
    uri, (width, height), across = (content["scenes"][key] for key in ("image", "size", "columns"))
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).astype(int)
    tiles = sheet.reshape(-1, height, across, width, 3).transpose(0, 2, 1, 3, 4).reshape(-1, height, width, 3)
    for number in list(scenes)[::10]:
        away = np.abs(tiles - scaled(scenes[number].image(), (height, width))).mean((1, 2, 3))
        assert away.argmin() == number and away[number] < np.median(away) / 2


def test_points_on_one_line_have_a_place():
    points, *known = made(3, 0)
    points[:, 1] = 7.0
    with np.errstate(all="raise"):
        content = pixel_map(points, *known)
    assert unpacked(content["points"]["y"], 3).tolist() == [0, 0, 0]


def test_as_many_pixels_as_the_notebook_has_stay_small():
    content = pixel_map(*made(1900, 300))
    assert len(content["shapes"]) > 120
    assert len(json.dumps(content)) < 165_000
    assert len(content["patches"]["image"]) < 110_000


def test_rows_of_a_store_become_pixels():
    samples = load_dataset("mini/val", limit=2)
    store = SimpleNamespace(parameters={"dataset": "mini/val"}, names=[sample.name for sample in samples], path="store")
    one = np.array([1], np.uint8)
    rows = SimpleNamespace(
        image=one, pixel=np.array([[3, 4]]), label=one, predicted=2 * one, confidence=np.array([0.5])
    )
    assert stored_pixels(store, rows) == [MappedPixel(samples[1], (3, 4), 1, 2, 0.5)]


# ---- in a browser


def places(touched, tab, content):
    """Where the points are in the window, (n, 2)."""
    left, top, width, height = touched.box(tab, "[tabindex] canvas")
    x, y = (unpacked(content["points"][name], content["count"]) / 999 for name in "xy")
    return np.stack(
        [left + MARGIN + x * (width - 2 * MARGIN), top + height - MARGIN - y * (height - 2 * MARGIN)], axis=1
    )


def values(tab):
    return tab.run(
        "Object.fromEntries([...document.querySelectorAll('[data-value]')]"
        ".map((element) => [element.dataset.value, element.textContent]))"
    )


def check(small, tab, i):
    """The panel shows what is known of pixel i."""
    predicted, distance, cluster = expected(small)
    pixel, shown = small[2][i], values(tab)
    assert (shown["true"], shown["predicted"]) == (NAMES[pixel.true], CLASS_NAMES[predicted[i]])
    assert float(shown["confidence"]) == pytest.approx(pixel.confidence, abs=6e-4)
    assert float(shown["d"]) == pytest.approx(distance[i], abs=6e-3)
    assert shown["cluster"] == (f"{cluster[i] + 1} of {shown['predicted']}" if cluster[i] >= 0 else "none")


def along(at, i, key):
    """Number of the nearest point that lies more in the direction of the key than sideways, or the same."""
    dx, dy = (at - at[i]).T
    toward, aside = {"ArrowRight": (dx, dy), "ArrowLeft": (-dx, dy), "ArrowDown": (dy, dx), "ArrowUp": (-dy, dx)}[key]
    allowed = toward > np.abs(aside)
    return int(np.where(allowed, np.hypot(dx, dy), np.inf).argmin()) if allowed.any() else i


def test_the_hovered_pixel_is_shown(small, content, touched, tmp_path, monkeypatch):
    with touched.figure(tmp_path, monkeypatch, "map", content) as tab:
        at = places(touched, tab, content)
        patches = np.array([cut_patch(pixel.sample.image(), pixel.pixel) for pixel in small[2]]).astype(int)
        for i in (0, 17, 123, 290):
            others = np.hypot(*(at - at[i]).T) < 1.5  # points on one place are one to the mouse
            touched.move(tab, *at[i])
            number = int(touched.ready(tab).split()[1])
            assert others[number]
            check(small, tab, number)
            shown = touched.picture(tab, ".iood-pair canvas")[3::6, 3::6].astype(int)  # each pixel is drawn as 6 x 6
            away = np.abs(patches - shown).mean((1, 2, 3))
            assert away[number] < min(away.min() + 1, 12) and np.median(away) > 30
        tab.run("document.querySelector('[tabindex]').focus()")
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp"):
            before = int(touched.ready(tab).split()[1])
            touched.press(tab, key)
            after = int(touched.ready(tab).split()[1])
            assert after == along(at, before, key) != before
            check(small, tab, after)


def test_colors_and_classes_are_chosen_and_a_finger_will_do(small, content, touched, tmp_path, monkeypatch):
    with touched.figure(tmp_path, monkeypatch, "map", content, width=390) as tab:
        assert tab.run("document.documentElement.scrollWidth") <= 390
        at = places(touched, tab, content)
        left, top, *_ = touched.box(tab, "[tabindex] canvas")
        apart = np.sort(np.hypot(*(at[:, None] - at).transpose(2, 0, 1)), axis=1)[:, 1]
        true = np.array([pixel.true for pixel in small[2]])
        known, unknown = (np.flatnonzero(mask)[apart[mask].argmax()] for mask in (true < UNKNOWN, true == UNKNOWN))
        touched.tap(tab, *at[known])
        tab.wait(f"document.querySelector('.iood-explorable').dataset.ready === 'class {known}'")
        check(small, tab, known)
        touched.choose(tab, 0, "known")
        seen = touched.picture(tab, "[tabindex] canvas")
        column, row = np.round(at[unknown] - (left, top)).astype(int)
        assert np.abs(seen[row, column].astype(int) - OOD_COLOR).max() < 30
        pictures = set()
        for way in ("class", "known", "distance", "cluster"):
            touched.choose(tab, 0, way)
            assert touched.ready(tab) == f"{way} {known}"
            pictures.add(touched.picture(tab, "[tabindex] canvas").tobytes())
        assert len(pictures) == 4
        touched.choose(tab, 1, str(UNKNOWN))
        assert values(tab)["true"] == "unknown object"
        touched.tap(tab, *at[known])  # the nearest of those brought forward
        distances = np.where(true == UNKNOWN, np.hypot(*(at - at[known]).T), np.inf)
        tab.wait(f"document.querySelector('.iood-explorable').dataset.ready === 'cluster {distances.argmin()}'")


def test_a_map_of_three_known_pixels(touched, tmp_path, monkeypatch):
    points, vectors, pixels, kmeans = made(3, 0)
    points[:, 1] = 7.0  # on one line
    with touched.figure(tmp_path, monkeypatch, "map", pixel_map(points, vectors, pixels, kmeans)) as tab:
        assert values(tab)["true"] == NAMES[pixels[0].true]
        assert "unknown" not in tab.run("document.querySelector('.iood-key').textContent")
