"""The profile for the real data, rehearsed: trees and weights in the official form, through all notebooks."""

from __future__ import annotations

import json

import nbformat
import numpy as np
import pytest
from conftest import SMALL
from PIL import Image
from rehearsal import ACDC, CITYSCAPES, SMIYC, rehearsal_tree, samples_archive
from synthetic_checkpoint import write_official_checkpoint

from iood_helpers import evaluate_submission, load_segmenter
from iood_helpers.bravo.submission import check_submission
from iood_helpers.course.runner import load_profile, notebook_order, run
from iood_helpers.datasets import BRAVO_LAYOUT, load_dataset

SCALE, TRAIN, IMAGES = 0.125, 5, 2


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The same tree without and with BRAVO labels; ``gt.tar`` and the organisers' ``samples.tar``."""
    folder = tmp_path_factory.mktemp("rehearsal")
    for name, labels in (("bare", False), ("labelled", True)):
        rehearsal_tree(folder / name, train=TRAIN, images=IMAGES, scale=SCALE, labels=labels)
    samples_archive(folder / "labelled", folder / "samples.tar")
    return folder


def profile(trees, tree, run_dir, **changes):
    small = {key: value for key, value in SMALL.items() if key != "limit"}
    return {
        **load_profile("cityscapes_bravo"),
        **small,
        "checkpoint": "nano",
        "projection_dim": 192,
        "demo_images": 2,
        "study_limit": 2,
        "data_root": str(trees / tree),
        "run_dir": str(run_dir),
        **changes,
    }


def scaled(size):
    return tuple(round(side * SCALE) for side in size)


# the trees


def test_cityscapes_is_as_it_is_downloaded(trees):
    for split, count in (("train", TRAIN), ("val", 2), ("test", 2)):
        found = load_dataset(f"cityscapes/{split}", root=trees / "bare")
        assert len(found) == count
        for sample in found:
            assert sample.image_path.suffix == ".png" and sample.image().shape[:2] == scaled(CITYSCAPES)
            assert sample.encoding == "label-ids" and sample.label().shape == scaled(CITYSCAPES)
    mini = load_dataset("mini/train")[0]
    wanted = np.asarray(Image.fromarray(mini.label()).resize(scaled(CITYSCAPES)[::-1], Image.Resampling.NEAREST))
    np.testing.assert_array_equal(load_dataset("cityscapes/train", root=trees / "bare")[0].label(), wanted)


@pytest.mark.parametrize("subset", BRAVO_LAYOUT)
def test_bravo_is_as_it_is_published(trees, subset):
    bare, labelled = (load_dataset(f"bravo/{subset}", root=trees / name) for name in ("bare", "labelled"))
    assert [s.name for s in bare] == [s.name for s in labelled] and len(bare) == IMAGES
    sizes = {"ACDC": [ACDC] * 3, "SMIY": SMIYC}.get(subset[:4], [CITYSCAPES] * 3)
    for number, (one, other) in enumerate(zip(bare, labelled, strict=True)):
        assert one.label_path is None and one.invalid_path is None
        assert one.image().shape[:2] == other.label().shape == other.invalid().shape == scaled(sizes[number])
        assert one.image_path.suffix == (".jpg" if subset == "SMIYC" else ".png")
    mini = load_dataset(f"mini/{subset}")
    assert [s.invalid().any() for s in labelled] == [mini[i].invalid().any() for i in range(IMAGES)]


# the profile


@pytest.fixture(scope="module")
def bare_run(trees, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    parameters = profile(trees, "bare", folder, samples_archive=str(trees / "samples.tar"))
    run(notebook_order(), parameters, profile="cityscapes_bravo")
    return folder


def outputs(folder, name):
    cells = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))


def test_the_promised_profile_runs_without_labels(bare_run):
    record = json.loads((bare_run / "run.json").read_text())
    assert record["status"] == "complete" and list(record["notebooks"]) == notebook_order()
    for name in notebook_order():
        said = "Left out, since there are no labels for it here" in outputs(bare_run, name)
        assert said == (name[:2] in ("00", "03", "05", "06", "07", "08", "09", "10")), name


def test_it_makes_the_submission(bare_run, trees):
    archive, tree = bare_run / "submission.tar", bare_run / "predictions" / "surplus"
    assert check_submission(tree, trees / "samples.tar", archive, progress=False) == IMAGES * len(BRAVO_LAYOUT)
    results = evaluate_submission(trees / "gt.tar", archive, trees / "samples.tar", progress=False)
    scalars = [value for value in results.values() if isinstance(value, float)]
    assert np.isfinite(scalars).all() and 0 < results["bravo_index"] < 1
    assert "decode to the predictions" in outputs(bare_run, "06_score_on_bravo")


def test_every_image_goes_through_the_network_once(bare_run):
    """Training images once (and one or two more to show), BRAVO images once outside of the studies of 07 to 10."""
    entries = json.loads((bare_run / "run.json").read_text())["notebooks"]
    passes = {name[:2]: entry["passes"] for name, entry in entries.items()}
    fit, calibration, val, bravo = 4, 1, 2, IMAGES * len(BRAVO_LAYOUT)
    assert passes["00"] == 1 + 2 + 1  # the scene, and a few images to learn from
    assert passes["01"] == val + 1
    assert passes["02"] == fit + calibration + 1  # and a corner of one
    assert passes["03"] == passes["06"] == 0
    assert passes["04"] == 1 + calibration + 2  # and two scenes to touch
    assert passes["05"] == 1 + calibration + bravo + val


def test_memory_is_recorded(bare_run):
    entries = json.loads((bare_run / "run.json").read_text())["notebooks"].values()
    assert all(0.05 < entry["peak_gib"] < 3 for entry in entries)


def test_without_the_organisers_samples_the_command_is_told(trees, bare_run, tmp_path):
    (tmp_path / "predictions").symlink_to(bare_run / "predictions")
    names = [name for name in notebook_order() if name.startswith("06")]
    run(names, profile(trees, "bare", tmp_path), profile="cityscapes_bravo")
    said = outputs(tmp_path, names[0])
    assert "samples.tar" in said and "python -m iood_helpers.submission encode" in said
    assert not (tmp_path / "submission.tar").exists()


def test_with_labels_everything_is_measured(trees, bare_run, tmp_path):
    for name in ("embeddings.zarr", "calibration.zarr", "embedder.safetensors", "kmeans.safetensors"):
        (tmp_path / name).symlink_to(bare_run / name)
    names = [name for name in notebook_order() if name[:2] in ("05", "06", "07")]
    run(names, profile(trees, "labelled", tmp_path), profile="cityscapes_bravo")
    metrics = json.loads((tmp_path / "metrics" / "06_score_on_bravo.json").read_text())
    assert metrics["encoded_difference"] < 1e-9 and 0 < metrics["fused_bravo_index"] < 1
    for name in names:
        assert "Left out" not in outputs(tmp_path, name)


def test_weights_in_the_official_form_go_the_same_way(trees, tmp_path):
    """Half precision, 150 rows, foreign objects: the first notebooks take the file by its path."""
    weights = write_official_checkpoint(tmp_path / "weights.pth", "nano")
    names = [name for name in notebook_order() if name[:2] in ("01", "02", "04")]
    parameters = profile(trees, "bare", tmp_path, checkpoint=str(weights), n_per_class=50)
    run(names, parameters, profile="cityscapes_bravo")
    model = json.loads((tmp_path / "model.json").read_text())
    assert (model["size"], model["head_rows"], model["stored"]) == ("nano", 150, "float16")
    with pytest.warns(UserWarning, match="150 rows"):
        assert model["sha256"] == load_segmenter(weights).info["sha256"]
