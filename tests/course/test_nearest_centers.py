"""The nearest centres of a pixel: what a browser shows after a click is what the clusters say."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from test_explorables import decode

from iood_helpers import ClassKMeans, PixelEmbedder, load_dataset, load_segmenter
from iood_helpers.course import nearest_centers as module
from iood_helpers.course import scene_to_show
from iood_helpers.course.nearest_centers import NONE, centers_to_meet, medoids, nearest_centers
from iood_helpers.course.patches import cut_patch
from iood_helpers.datasets.labels import CLASS_NAMES
from iood_helpers.method.distances import Distances
from iood_helpers.method.store import extract_embeddings

PER_CLASS = 400
SCENES = ("calibration image", "new image, with an unknown object")


@pytest.fixture(scope="module")
def segmenter():
    return load_segmenter("nano", device="cpu")


@pytest.fixture(scope="module")
def run(segmenter, tmp_path_factory):
    """A run folder's embedder and pixels, of four images."""
    embedder = PixelEmbedder((0, 2, "decoder"), standardize=True)
    images = load_dataset("mini/train-fit", limit=4)
    path = tmp_path_factory.mktemp("run") / "embeddings.zarr"
    store = extract_embeddings(segmenter, images, embedder.raw, path, n_per_class=PER_CLASS, progress=False)
    embedder.fit(store.load().embeddings)
    return SimpleNamespace(embedder=embedder, embeddings=store)


@pytest.fixture(scope="module")
def fitted(run):
    """Vectors and classes of the fit, and clusters of them; some classes get one centre or two."""
    rows = run.embeddings.load(PER_CLASS, 0, levels=run.embedder.levels)
    x = run.embedder.apply(rows.embeddings)
    kmeans = ClassKMeans(30, n_init=1, min_samples_per_cluster=12).fit(x, rows.label)
    return x, rows, kmeans.calibrate(x, rows.predicted)


@pytest.fixture(scope="module")
def content(run, fitted, segmenter):
    scenes = {
        "calibration image": load_dataset("mini/train-calibration", limit=1)[0],
        "new image": scene_to_show("mini/devobjs"),
    }
    return centers_to_meet(run, fitted[2], scenes, segmenter, n_per_class=PER_CLASS)


def opened(content, number):
    """Planes (11, rows, columns) of a scene."""
    scene = content["scenes"][number]
    return decode(scene["maps"], 11 * scene["rows"], scene["columns"]).reshape(11, scene["rows"], scene["columns"])


def test_the_nearest_centres_are_those_of_the_class_in_order(fitted):
    x, rows, kmeans = fitted
    numbers, distance = nearest_centers(kmeans, x[::7], rows.predicted[::7])
    owner = np.repeat(sorted(kmeans.centers_), [len(kmeans.centers_[c]) for c in sorted(kmeans.centers_)])
    centers = np.concatenate([kmeans.centers_[c] for c in sorted(kmeans.centers_)])
    known = np.isin(rows.predicted[::7], sorted(kmeans.centers_))
    assert distance[:, 0] == pytest.approx(kmeans.scaled_distance(x[::7], rows.predicted[::7]), rel=1e-4, abs=2e-3)
    for k in range(3):
        there = known & (numbers[:, k] != NONE)
        assert (owner[numbers[there, k]] == rows.predicted[::7][there]).all()
        scales = np.array([kmeans.scales_[c] for c in owner[numbers[there, k]]])
        by_hand = np.linalg.norm(x[::7][there] - centers[numbers[there, k]], axis=1) / scales
        assert distance[there, k] == pytest.approx(by_hand, rel=1e-3, abs=2e-3)
    assert (np.diff(np.nan_to_num(distance, posinf=1e9)) >= 0).all()


def test_a_class_with_one_centre_has_one_and_a_class_without_any_meets_all():
    y = np.array([0] * 20 + [1] * 20)
    x = np.concatenate([np.zeros((20, 2)), np.ones((20, 2))]) + np.random.default_rng(0).normal(size=(40, 2)) / 10
    kmeans = ClassKMeans(2, min_samples_per_cluster=10).fit(x, y)
    kmeans.centers_[0] = kmeans.centers_[0][:1]
    numbers, distance = nearest_centers(kmeans, x[[0, 30, 30]], np.array([0, 1, 7]))
    assert numbers[0].tolist() == [0, NONE, NONE] and np.isinf(distance[0, 1:]).all()
    assert sorted(numbers[1, :2]) == [1, 2] and numbers[1, 2] == NONE
    assert (numbers[2] != NONE).all() and numbers[2, 0] in (1, 2)
    assert distance[2, 0] == pytest.approx(kmeans.scaled_distance(x[[30]], np.array([7]))[0], rel=1e-5)


def test_medoids_are_the_closest_pixels_of_their_class(fitted):
    x, rows, kmeans = fitted
    chosen, start = medoids(kmeans, x, rows.label), 0
    for c in sorted(kmeans.centers_):
        for center in kmeans.centers_[c]:
            own = np.flatnonzero(rows.label == c)
            assert rows.label[chosen[start]] == c
            least = np.linalg.norm(x[own] - center, axis=1).min()
            assert np.linalg.norm(x[chosen[start]] - center) == pytest.approx(least, rel=1e-3, abs=1e-3)
            start += 1
    assert start == len(chosen)


def test_the_maps_hold_what_the_distances_are(run, fitted, segmenter, content):
    assert len(json.dumps(content)) < 130_000
    assert [scene["title"] for scene in content["scenes"]] == list(SCENES)
    sample = scene_to_show("mini/devobjs")
    measured = Distances(segmenter.predict(sample.image()), fitted[2], run.embedder)
    planes = opened(content, 1)
    assert (planes[0] == measured.classes).all()
    assert planes[1].mean() == pytest.approx(sample.invalid().mean(), abs=0.003) and planes[1].any()
    assert planes[8] / 100 == pytest.approx(np.minimum(measured.relative(0.85), 2.55), abs=6e-3)
    assert not opened(content, 0)[1].any()
    assert content["calibration"]["pooled"] == [
        c for c in content["calibration"]["classes"] if c not in fitted[2].quantiles_
    ]


def test_a_large_scene_is_shown_by_fewer_cells(run, fitted, segmenter, content, monkeypatch):
    monkeypatch.setattr(module, "COLUMNS", 32)
    monkeypatch.setattr(module, "WIDTH", 100)
    scene = module._scene(run, fitted[2], scene_to_show("mini/devobjs"), segmenter)
    assert scene["classes"].shape == (16, 32) and scene["image"].shape == (50, 100, 3)
    assert (scene["classes"] == opened(content, 1)[0][1::3, 1::3]).all()
    assert (scene["unknown"] == opened(content, 1)[1][1::3, 1::3]).all()


def test_patches_are_cut_from_the_pixels_of_the_fit(run):
    """Those of this number and seed, and no others."""
    rows = run.embeddings.load(60, 3, levels=run.embedder.levels)
    x = run.embedder.apply(rows.embeddings)
    kmeans = ClassKMeans(2, n_init=1).fit(x, rows.label)
    met = np.array([5, 1, 8])
    found = module._medoid_patches(run, kmeans, met, 60, 3, None)
    samples = {sample.name: sample for sample in load_dataset("mini/train-fit", limit=4)}
    for patch, row in zip(found, medoids(kmeans, x, rows.label)[met], strict=True):
        image = samples[run.embeddings.names[rows.image[row]]].image()
        np.testing.assert_array_equal(patch, cut_patch(image, rows.pixel[row]))


def test_a_picture_is_made_smaller_and_never_larger():
    assert module._picture_size((1024, 2048, 3)) == (192, 384) and module._picture_size((100, 50, 3)) == (100, 50)


# ---- in a browser


def number(text):
    """The number in "0.81", "59.0 %", "less than 0.4 %" or "2.55 or more"."""
    value = float(next(word for word in text.replace("\u00a0", " ").split() if word[0].isdigit()))
    return value / 100 if "%" in text else value


def check(content, fitted, tab, touched, scene, x, y):
    """The page shows what the clusters say of a cell."""
    kmeans, planes = fitted[2], opened(content, scene)[:, y, x]
    assert touched.ready(tab) == f"{scene} {x} {y}"
    texts = tab.run(
        "Object.fromEntries([...document.querySelectorAll('figure:not([hidden]) [data-number], p [data-number]')]"
        ".map((element) => [element.dataset.number, element.textContent]))"
    )
    c = int(planes[0])
    assert tab.run("document.querySelector('[data-text=class]').textContent") == CLASS_NAMES[c]
    assert ("unknown object" in tab.run("document.querySelector('p.iood-sentence').textContent")) == bool(planes[1])
    met = [256 * high + low for high, low in zip(planes[2:5], planes[5:8], strict=True)]
    there = [k for k in range(3) if met[k] != NONE]
    assert sorted(texts) == sorted(["d", "tail", *(f"d{k}" for k in there)])
    for k in there:
        assert number(texts[f"d{k}"]) == planes[8 + k] / 100
        caption = tab.run(f"document.querySelectorAll('.iood-patches figcaption')[{k + 1}].textContent")
        assert f"of {CLASS_NAMES[content['centers']['class'][met[k]]]}: " in caption
        assert f"({content['centers']['pixels'][met[k]]} training pixels)" in caption
    d = planes[8] / 100
    usual = kmeans.calibration_quantile(np.array([c]), 0.85)
    tail = kmeans.tail_probability(d * usual, np.array([c]))[0]
    assert number(texts["d"]) == d and number(texts["tail"]) == pytest.approx(tail, abs=0.02)
    # the line stands where the axis says d: between the lines of the grid at 0 and 1
    line = tab.run("Number(document.querySelector('svg .threshold').getAttribute('x1'))")
    zero, one = tab.run("[0, 2].map((i) => Number(document.querySelectorAll('svg .grid')[i].getAttribute('x1')))")
    assert (line - zero) / (one - zero) == pytest.approx(d, abs=1e-3)


def test_a_clicked_pixel_meets_its_centres(content, fitted, run, segmenter, touched, tmp_path, monkeypatch):
    kmeans, rows = fitted[2], fitted[1]
    scenes = load_dataset("mini/train-calibration", limit=1)[0], scene_to_show("mini/devobjs")
    predictions = [segmenter.predict(sample.image()) for sample in scenes]
    grids = [run.embedder.transform_grid(prediction) for prediction in predictions]
    samples = {sample.name: sample for sample in load_dataset("mini/train-fit", limit=4)}
    patches = [
        cut_patch(samples[run.embeddings.names[rows.image[row]]].image(), rows.pixel[row]).astype(int)
        for row in medoids(kmeans, fitted[0], rows.label)
    ]
    with touched.figure(tmp_path, monkeypatch, "centers", content) as tab:
        for scene, cells in ((0, [(20, 40), (95, 0)]), (1, [(3, 11), (60, 30)])):
            touched.choose(tab, 0, str(scene))
            tab.wait(f"document.querySelector('.iood-explorable').dataset.ready.startsWith('{scene} ')")
            left, top, width, height = touched.box(tab, "[tabindex] canvas")
            for x, y in cells:
                touched.click(tab, left + (x + 0.5) * width / 96, top + (y + 0.5) * height / 48)
                check(content, fitted, tab, touched, scene, x, y)
                c, vector = predictions[scene].logits.argmax(0)[y, x], grids[scene][y, x]
                nearest = np.linalg.norm(kmeans.centers_[c] - vector, axis=1).argmin()
                row = sum(len(kmeans.centers_[k]) for k in kmeans.centers_ if k < c) + nearest
                shown = touched.picture(tab, ".iood-patches figure:nth-child(2) canvas")[3::6, 3::6].astype(int)
                away = np.abs(np.array(patches) - shown).mean((1, 2, 3))
                assert away[row] < min(away.min() + 1, 14) and np.median(away) > 30
            tab.run("document.querySelector('[tabindex]').focus()")
            for key, shift, step in (
                ("ArrowLeft", False, (-1, 0)),
                ("ArrowDown", False, (0, 1)),
                ("ArrowLeft", True, (-10, 0)),
            ):
                touched.press(tab, key, shift)
                x, y = x + step[0], y + step[1]
                check(content, fitted, tab, touched, scene, x, y)


def test_it_fits_a_phone_and_answers_a_finger(content, fitted, touched, tmp_path, monkeypatch):
    with touched.figure(tmp_path, monkeypatch, "centers", content, width=390) as tab:
        assert tab.run("document.documentElement.scrollWidth") <= 390
        left, top, width, height = touched.box(tab, "[tabindex] canvas")
        touched.tap(tab, left + 50.5 * width / 96, top + 40.5 * height / 48)
        tab.wait("document.querySelector('.iood-explorable').dataset.ready === '0 50 40'")
        check(content, fitted, tab, touched, 0, 50, 40)
