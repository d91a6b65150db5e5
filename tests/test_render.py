"""The renderer gives the shipped scenes again, and they hold what they say."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from make_mini_scenes import Entry, agrees, entries, png
from render import FIRST_SEED, encode_jpeg, render_scene, render_subset_scene
from render.objects import DEVELOPMENT_KINDS, HELD_OUT_KINDS
from render.subsets import OBJECTS

from iood_helpers.datasets import load_dataset
from iood_helpers.io import data_dir

MINI, ENTRIES = data_dir() / "mini", list(entries())


def rows():
    with (MINI / "scenes.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_same_seed_same_bytes_and_other_seed_other_scene():
    a, b, c = render_scene(5), render_scene(5), render_scene(6)
    assert encode_jpeg(a.image) == encode_jpeg(b.image) and (a.label == b.label).all()
    assert np.abs(a.image.astype(int) - c.image).mean() > 10


def some() -> list[Entry]:
    """One scene of each split and subset."""
    return list({entry.subset: entry for entry in ENTRIES if entry.index == 7}.values())


@pytest.mark.parametrize("entry", some(), ids=lambda entry: entry.subset)
def test_shipped_files_are_what_the_renderer_makes(entry):
    for name, content in entry.files(entry.render()).items():
        assert agrees((MINI / name).read_bytes(), content), name


def test_agreement_allows_for_rounding_only():
    scene = render_scene(5)
    image = encode_jpeg(scene.image)
    assert agrees(image, image) and agrees(png(scene.label), png(scene.label))
    assert not agrees(image, encode_jpeg(render_scene(6).image))
    assert not agrees(image, encode_jpeg(np.clip(scene.image.astype(int) + 2, 0, 255).astype(np.uint8)))
    other = scene.label.copy()
    other[:20, :20] = 18 - other[:20, :20] // 2
    assert not agrees(png(scene.label), png(other))


def test_all_files_are_in_the_manifest_and_there():
    listed = {row["file"] for row in rows()}
    there = {str(path.relative_to(MINI)) for path in MINI.rglob("*.jpg")}
    assert listed == there == {entry.image for entry in ENTRIES}
    seeds = [int(row["seed"]) for row in rows()]
    assert len(set(seeds)) == len(seeds)


def test_the_loaders_read_every_split():
    for split, number in {"train": 160, "val": 60, "train-fit": 128, "synobjs": 60, "SMIYC": 60}.items():
        assert len(load_dataset("mini", split)) == number
    for split in FIRST_SEED:
        sample = load_dataset("mini", split)[0]
        assert sample.image().shape == (192, 384, 3) and sample.label().shape == sample.invalid().shape == (192, 384)


def test_all_classes_occur_and_no_other_id():
    counts = np.zeros(256, int)
    for sample in load_dataset("mini", "val"):
        counts += np.bincount(sample.label().ravel(), minlength=256)
    assert (counts[:19] > 0).all() and counts[19:255].sum() == 0
    assert counts[:19].min() / counts.sum() > 0.002


@pytest.mark.parametrize("subset", ["synobjs", "SMIYC", "devobjs", "newobjs"])
def test_unknown_objects_are_marked_and_labelled_as_valid_ground(subset):
    kinds = {kind for row in rows() if row["subset"] == subset for kind in row["object_kinds"].split()}
    assert kinds == set(OBJECTS[subset])
    marked = [sample.invalid() for sample in load_dataset("mini", subset)]
    assert np.mean([mask.any() for mask in marked]) > 0.8  # some stand behind others
    assert 0.005 < np.mean(marked) < 0.15
    for sample in load_dataset("mini", subset, limit=5):
        assert (sample.label()[sample.invalid()] != 255).all()  # a void label would hide them from the metrics


def test_weather_leaves_labels_and_changes_pictures():
    from render.scene import paint_scene
    from render.street import shrink

    for subset in ("ACDCfog", "ACDCrain", "ACDCnight", "ACDCsnow", "synrain"):
        scene = render_subset_scene(subset, 0)
        color, label, _ = shrink(paint_scene(FIRST_SEED[subset], 192, 384))
        assert (scene.label == label).all() and not scene.invalid.any()
        assert np.abs(scene.image.astype(int) - color).mean() > 8
    night, fog = render_subset_scene("ACDCnight", 0).image, render_subset_scene("ACDCfog", 0).image
    assert night.mean() < 60 < fog.mean()


def test_flare_is_invalid_where_it_drowns_the_picture():
    scene = render_subset_scene("synflare", 0)
    assert scene.invalid.any() and scene.image[scene.invalid].mean() > 200


def test_no_development_sees_the_held_out_kinds():
    assert not set(OBJECTS["devobjs"]) & set(OBJECTS["newobjs"])
    assert set(OBJECTS["synobjs"]) == set(DEVELOPMENT_KINDS) | set(HELD_OUT_KINDS)
