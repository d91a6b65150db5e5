"""Refined predictions, their metrics and the submission are those of one process."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
from scale_samples import Counted, replaced, slow_square

from iood_helpers import encode_submission, load_dataset, load_segmenter
from iood_helpers.bravo.accumulator import BravoAccumulator
from iood_helpers.bravo.ground_truth import pack_ground_truth
from iood_helpers.bravo.submission import read_prediction, sample_ground_truth
from iood_helpers.course.evaluation import evaluate_rules
from iood_helpers.datasets.samples import Dataset
from iood_helpers.errors import DatasetError, ScaleError, SubmissionError
from iood_helpers.method.refinement import CalibratedRule
from iood_helpers.scale import Network, encode, refine, refining, score, submitting

SPLIT = "mini/synobjs"
RULES = {"raw": None, "calibrated": CalibratedRule()}


@pytest.fixture(scope="module")
def scenes():
    return load_dataset(SPLIT, limit=5)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, fitted):
    """What the course's own function gives, and its tree."""
    tree = tmp_path_factory.mktemp("wanted")
    embedder, kmeans = fitted
    return evaluate_rules(RULES, SPLIT, load_segmenter("nano"), kmeans, embedder, limit=5, tree=tree), tree


def assert_same_counts(found: BravoAccumulator, wanted: BravoAccumulator):
    for name in ("correct", "wrong", "invalid", "confusion"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert (found.images, found.labelled, found.name) == (wanted.images, wanted.labelled, wanted.name)


@pytest.mark.parametrize("where", ["here", "dask"])
def test_trees_and_counts_are_those_of_one_process(where, tmp_path, fitted, scenes, wanted, client, monkeypatch):
    monkeypatch.setattr(refining, "BLOCK", 2)
    client = client if where == "dask" else None
    embedder, kmeans = fitted
    assert refine(Network(), scenes, RULES, kmeans, embedder, tmp_path, client=client) == []
    evaluation, tree = wanted
    for name in RULES:
        for sample in scenes:
            for found, asked in zip(
                read_prediction(tmp_path / name, SPLIT, sample.name),
                read_prediction(tree / name, SPLIT, sample.name),
                strict=True,
            ):
                np.testing.assert_array_equal(found, asked)
        assert_same_counts(score(tmp_path / name, scenes, client=client, progress=False), evaluation.counts[name])


def test_void_pixels_are_not_counted_and_every_image_is(monkeypatch, tmp_path):
    classes, levels = np.zeros((4, 6), np.uint8), np.full((4, 6), 200)
    label, invalid, void = np.ones_like(classes), np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    invalid[:2], void[::2] = True, True
    monkeypatch.setattr(refining, "read_prediction", lambda *_: (classes, levels))
    sample = SimpleNamespace(name="a", label=lambda: label, invalid=lambda: invalid, void=lambda: void)
    monkeypatch.setattr(refining, "BLOCK", 2)
    three = Dataset(*SPLIT.split("/"), tmp_path, [sample] * 3)
    found, wanted = score(tmp_path, three, progress=False), BravoAccumulator(SPLIT)
    for _ in range(3):
        wanted.update(label, invalid, classes, levels, void)
    assert_same_counts(found, wanted)
    assert found.invalid.sum() == 3 * 6


def test_four_workers_score_the_same(fitted, scenes, wanted, cluster, client, monkeypatch):
    cluster.scale(4)
    client.wait_for_workers(4, timeout=60)
    monkeypatch.setattr(refining, "BLOCK", 1)
    evaluation, tree = wanted
    assert_same_counts(
        score(tree / "calibrated", scenes, client=client, progress=False), evaluation.counts["calibrated"]
    )


def test_what_is_there_is_not_done_again(tmp_path, fitted, scenes, monkeypatch):
    embedder, kmeans = fitted
    counted = replaced(scenes, list(range(5)), Counted, log=tmp_path / "log")
    tree = tmp_path / "tree"
    refine(Network(), counted[:3], RULES, kmeans, embedder, tree)
    missing = next((tree / "calibrated").rglob(f"*{scenes[1].name}*_conf.png"))
    before = missing.read_bytes()
    missing.unlink()
    refine(Network(), counted, RULES, kmeans, embedder, tree)
    assert missing.read_bytes() == before
    log = (tmp_path / "log").read_text().split()
    assert log == [scenes[number].name for number in (0, 1, 2, 1, 3, 4)]
    with pytest.raises(ScaleError, match=r"calibrated were made with other settings \(rule\)"):
        refine(Network(), scenes, {"calibrated": CalibratedRule(strength=1)}, kmeans, embedder, tree)
    with pytest.raises(ScaleError, match=r"\(embedder\)"):
        refine(Network(), scenes, RULES, kmeans, type(embedder)(embedder.levels), tree)
    moved = copy.deepcopy(kmeans)
    moved.centers_[0] += 1
    with pytest.raises(ScaleError, match=r"\(kmeans\)"):
        refine(Network(), scenes, RULES, moved, embedder, tree)
    monkeypatch.setattr(refining, "described", lambda *_: ("another", "bfloat16", {}))
    with pytest.raises(ScaleError, match=r"\(checkpoint, precision\)"):
        refine(Network(), scenes, RULES, kmeans, embedder, tree)


def test_a_damaged_image_stops_or_is_skipped(tmp_path, fitted, scenes):
    (tmp_path / "damaged.png").write_bytes(b"no image")
    embedder, kmeans = fitted
    samples = [type(sample)(**vars(sample)) for sample in scenes[:2]]
    samples[0] = type(samples[0])(**{**vars(samples[0]), "image_path": tmp_path / "damaged.png"})
    damaged = type(scenes)(scenes.name, scenes.split, scenes.root, samples)
    with pytest.raises(DatasetError, match=r"damaged\.png"):
        refine(Network(), damaged, RULES, kmeans, embedder, tmp_path / "tree")
    [failure] = refine(Network(), damaged, RULES, kmeans, embedder, tmp_path / "tree", on_error="skip")
    assert failure.name == samples[0].name and "damaged.png" in failure.reason
    with pytest.raises(SubmissionError, match="is missing"):
        score(tmp_path / "tree/raw", damaged, progress=False)


def test_a_submission_has_the_same_bytes(tmp_path, fitted, client):
    embedder, kmeans = fitted
    truth = pack_ground_truth(["mini/SMIYC"], tmp_path / "gt.tar", limit=3)
    samples = sample_ground_truth(truth, tmp_path / "samples.tar", progress=False)
    refine(Network(), load_dataset("mini/SMIYC", limit=3), {"raw": None}, kmeans, embedder, tmp_path / "tree")
    tree = tmp_path / "tree/raw"
    plain = encode_submission(tree, samples, tmp_path / "plain.tar", progress=False).read_bytes()
    for where in (None, client):
        assert encode(tree, samples, tmp_path / "spread.tar", client=where, progress=False).read_bytes() == plain


def test_all_images_of_a_submission_are_spread_in_order(monkeypatch):
    def backwards(function, items, client):
        return reversed([(index, function(item)) for index, item in enumerate(items)])

    monkeypatch.setattr(submitting, "AHEAD", 2)
    monkeypatch.setattr(submitting, "run", backwards)
    assert list(submitting._spread(None, slow_square, iter(range(5)))) == [0, 1, 4, 9, 16]


def test_a_tree_is_a_folder(fitted, scenes):
    with pytest.raises(ScaleError, match="give a path"):
        score("s3://bucket/tree", scenes)
