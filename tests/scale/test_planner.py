"""The arithmetic of a plan on given timings, and what the command says; nothing is timed here."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from iood_helpers import PixelEmbedder
from iood_helpers.errors import RefinementError
from iood_helpers.scale import Network, planner
from iood_helpers.scale.extraction import described
from iood_helpers.scale.planner import OVERHEAD, Timings, Work, plan

TIMINGS = Timings(
    start=10.0,
    extract=2.0,
    calibrate=3.0,
    refine=3.0,
    score=0.5,
    fit=100.0,
    store_bytes=1e6,
    tree_bytes=2e6,
    worker_bytes=3 * 2**30,
    fit_bytes=2**30,
)
WORK = Work(drawn=101, calibrated=4, tested=40)


def steps(timings=TIMINGS, work=WORK, workers=(1, 4)):
    return {step.name: step for step in plan(timings, work, workers)}


def test_each_step_is_what_its_images_cost():
    found = steps()
    assert found["embeddings"].seconds == {1: 202.0, 4: 26 * 2.0}  # 101 images are 26 rounds of 4
    assert found["predictions"].seconds == {1: 120.0, 4: 30.0}
    assert found["metrics"].seconds == {1: 20.0, 4: 5.0}
    assert found["calibration"].seconds == {1: 12.0, 4: 12.0}  # in one process
    assert found["clusters"].seconds == {1: 100.0, 4: 100.0}
    assert found["total"].seconds == {1: 464.0, 4: 10 + 52 + 100 + 12 + 30 + 5}
    assert (found["embeddings"].disk, found["predictions"].disk, found["total"].disk) == (101e6, 80e6, 181e6)


def test_the_scheduler_limits_what_many_workers_gain():
    quick = dataclasses.replace(TIMINGS, score=0.001)
    many = steps(quick, Work(0, 0, 10_000), (1, 100))["metrics"].seconds
    assert many == {1: pytest.approx(10.0), 100: pytest.approx(10_000 * OVERHEAD)}


def test_twice_the_images_cost_twice_the_time_and_disk():
    one, two = steps(), steps(work=Work(202, 8, 80))
    for name in ("embeddings", "calibration", "predictions", "metrics"):
        assert two[name].seconds[1] == 2 * one[name].seconds[1] and two[name].disk == 2 * one[name].disk
    assert two["clusters"] == one["clusters"] and two["start"] == one["start"]


def test_a_plan_in_words():
    text = planner.in_words(plan(dataclasses.replace(TIMINGS, fit=7200), WORK, (1, 4)), TIMINGS)
    assert "1 worker " in text and "4 workers" in text
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert lines["clusters"] == ["clusters", "2.0", "h", "2.0", "h"]
    assert lines["embeddings"] == ["embeddings", "101", "3.4", "min", "52.0", "s", "96", "MiB"]
    assert "3.0 GiB for each worker, 1.0 GiB for the vectors of the fit" in text


def test_a_handful_is_spread_and_its_first_image_warms_up(monkeypatch):
    assert planner._spread("abcde", 3) == ["a", "c", "e"] and planner._spread("a", 5) == ["a"]
    clock = [0.0]

    def work(index):
        clock[0] += (100.0, 2.0, 4.0)[index]

    monkeypatch.setattr(planner, "_seconds", lambda work: -clock[0] + (work(), clock[0])[1])
    assert planner._each(work, 3) == 3.0 and planner._each(work, 1) == 100.0


def test_a_round_costs_rows_times_centers():
    assert planner._products(np.array([100, 95, 5, 0]), 10) == 100 * 10 + 95 * 9 + 5


@pytest.mark.parametrize("shared, each", [(20, (6.0 + 10.0) / 4), (0, 10.0 / 4)])
def test_both_calibrations_count(shared, each, monkeypatch):
    clock, asked = [0.0], []

    def calibrate_on_images(*_):
        clock[0] += 6

    def recalibrate(rules, *_):
        clock[0] += 10
        asked.extend(rules)
        raise RefinementError("no wrong pixel")

    monkeypatch.setattr("iood_helpers.method.surplus.calibrate_on_images", calibrate_on_images)
    monkeypatch.setattr("iood_helpers.method.calibration.recalibrate", recalibrate)
    monkeypatch.setattr(planner.time, "perf_counter", lambda: clock[0])
    handful = planner._Handful.__new__(planner._Handful)
    handful.network, handful.parameters = SimpleNamespace(segmenter=lambda: None), {"n_shared": shared}
    handful.few, handful.kmeans, handful.embedder = [1, 2, 3, 4], None, None
    assert handful.calibrate() == each
    assert asked == ["calibrated", "fused", "surplus"][: 3 if shared else 2]


def test_predictions_take_the_disk_of_one_image(tmp_path, monkeypatch):
    class Images(list):
        name, split = "a", "b"

    def refine_image(sample, network, rules, kmeans, embedder, tree, split):
        (tree / split).mkdir(parents=True, exist_ok=True)
        (tree / split / sample).write_bytes(bytes(100))

    counted = []
    monkeypatch.setattr("iood_helpers.scale.refining.refine_image", refine_image)
    monkeypatch.setattr("iood_helpers.scale.refining.count_images", lambda *asked: counted.append(asked))
    handful = planner._Handful.__new__(planner._Handful)
    handful.network, handful.parameters, handful.kmeans, handful.embedder = None, {"n_shared": 0}, None, None
    handful.folder, handful.images = tmp_path, 3
    assert handful.refine([Images("kl"), Images("mnp")])[2] == 100
    assert {samples[0] for samples, *_ in counted} == {"k", "m", "p"}  # of all splits, by each rule
    assert {folder.name for _, folder, _ in counted} == {"raw", "published", "calibrated", "fused"}


def test_splits_are_weighed_by_their_images_and_nothing_is_left(monkeypatch, tmp_path):
    """In place of the steps stands what gives known numbers."""
    folders, splits = [], []

    class Handful:
        def __init__(self, network, parameters, folder, images):
            folders.append(folder)
            (folder / "something").touch()

        def extract(self, dataset):
            splits.append((dataset.split, len(dataset)))
            return float(len(dataset)), 10.0 * len(dataset)

        def fit(self, images):
            return 7.0, images

        def calibrate(self):
            return 1.0

        def refine(self, tested):
            return 2.0, 3.0, 4.0

    monkeypatch.setattr(planner, "_Handful", Handful)
    threads = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    words = ["--train-images", "12", "--threads", "3", "--json", str(tmp_path / "plan.json")]
    assert planner.main(["mini", *words, "--set=recalibration_images=4"]) == 0
    assert threads == [3] and len(folders) == 1 and not folders[0].exists()
    assert [split for split, _ in splits] == ["train-calibration", "train-fit"]  # the last one is fitted
    few, many = (number for _, number in splits)
    found = json.loads((tmp_path / "plan.json").read_text())
    assert few != many
    assert found["timings"]["extract"] == pytest.approx((few**2 + many**2) / (few + many))
    assert found["timings"]["store_bytes"] == pytest.approx(10 * found["timings"]["extract"])
    assert found["timings"]["fit_bytes"] == many
    assert (found["work"]["drawn"], found["work"]["calibrated"]) == (12, 4)
    assert found["timings"]["worker_bytes"] > 2**27  # PyTorch alone is larger


@pytest.mark.slow
def test_the_command_measures_and_writes(tmp_path, capsys):
    options = ["--images", "2", "--workers", "1", "3", "--test-images", "900", "--json", str(tmp_path / "plan.json")]
    small = [f"--set={name}={value}" for name, value in (("limit", 3), ("n_per_class", 60), ("n_shared", 20))]
    assert planner.main(["mini", *options, *small, "--set=test_splits=[mini/synobjs]"]) == 0
    assert "900" in capsys.readouterr().out
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["work"] == {"drawn": 6, "calibrated": 3, "tested": 900}
    assert all(value > 0 for value in found["timings"].values())
    width = sum(described(Network(), PixelEmbedder((0, 2, "decoder")))[2].values())
    assert 10 * 60 < found["timings"]["fit_bytes"] / (4 * width) <= 19 * 60  # 60 rows of a class at most
    total = found["steps"][-1]
    assert total["seconds"]["3"] < total["seconds"]["1"]


@pytest.mark.slow
def test_clusters_without_shared_centers_are_planned_without_the_rule_that_needs_them(capsys):
    small = ["--images", "2", "--set=limit=3", "--set=n_per_class=60", "--set=test_splits=[mini/synobjs]"]
    assert planner.main(["mini", *small, "--set=n_shared=0"]) == 0
    assert "calibration" in capsys.readouterr().out


def test_what_cannot_be_planned_is_named(capsys, tmp_path):
    assert planner.main(["minni"]) == 1
    assert "Did you mean 'mini'?" in capsys.readouterr().err
    assert planner.main(["mini", "--images", "0"]) == 1
    assert "1 or more" in capsys.readouterr().err
    assert planner.main(["cityscapes_bravo", f"--set=data_root={tmp_path}", "--set=checkpoint=nano"]) == 1
    assert str(tmp_path) in capsys.readouterr().err
