"""The experiment of a profile on workers has the numbers of the notebooks, goes on, and keeps runs apart."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SMALL

from iood_helpers import ClassKMeans
from iood_helpers.command.cli import main
from iood_helpers.course.artifacts import read_metrics
from iood_helpers.course.runner import load_profile
from iood_helpers.errors import ParameterError, ScaleError
from iood_helpers.method.calibration import Recalibration
from iood_helpers.scale import ShardedStore, experiment, run_experiment
from iood_helpers.scale.tasks import Failure

KEYS = ("semantic_hmean", "ood_hmean", "bravo_index")
RULES = ("raw", "published", "calibrated", "fused", "surplus")
TINY = {"limit": 2, "n_per_class": 40, "n_clusters": 2, "n_shared": 20, "test_splits": ["mini/SMIYC"]}


@pytest.fixture(scope="module")
def done(tmp_path_factory, client):
    """The small experiment on two workers."""
    parameters = load_profile("mini") | SMALL | {"run_dir": str(tmp_path_factory.mktemp("experiment"))}
    return parameters, run_experiment(parameters, client=client)


def test_numbers_are_those_of_the_notebooks(done, chain):
    wanted, (_, found) = read_metrics(chain, "06_score_on_bravo"), done
    assert list(found) == list(RULES)
    for rule in RULES:
        expected = {key: wanted[f"{rule}_{key}"] for key in KEYS}
        assert {key: found[rule][key] for key in KEYS} == pytest.approx(expected, abs=2e-3), rule


def test_what_is_done_is_not_done_again(done, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("done again")

    parameters, found = done
    monkeypatch.setattr(experiment, "fit", never)
    monkeypatch.setattr(experiment, "extract", never)
    monkeypatch.setattr(experiment, "recalibrate", never)
    monkeypatch.setattr("iood_helpers.scale.refining.refine_image", never)
    again = run_experiment(parameters)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(found))


def test_runs_are_kept_apart(tmp_path):
    parameters = load_profile("mini") | TINY | {"run_dir": str(tmp_path)}
    settings = {name: parameters[name] for name in experiment.SETTINGS}
    (tmp_path / "experiment-settings.json").write_text(json.dumps({**settings, "seed": 1, "smooth": 3.0}))
    with pytest.raises(ScaleError, match="another smooth, seed; choose another run_dir"):
        run_experiment(parameters)
    (tmp_path / "experiment-settings.json").write_text("{")
    with pytest.raises(ScaleError, match="experiment-settings.json is damaged"):
        run_experiment(parameters)
    (tmp_path / "experiment-settings.json").unlink()
    for left in (tmp_path / "kmeans.safetensors", tmp_path / "predictions"):
        left.mkdir()
        with pytest.raises(ScaleError, match=f"{tmp_path} holds a run of the notebooks"):
            run_experiment(parameters)
        left.rmdir()


def test_rules_are_those_of_the_parameters_and_recalibrated_once(tmp_path, monkeypatch):
    asked = []

    def recalibrate(rules, segmenter, samples, kmeans, embedder, *, left_out):
        asked.append((sorted(rules), samples.split, len(samples), left_out))
        return {name: replace(rule, recalibration=Recalibration(2.0, 3.0, 0.5)) for name, rule in rules.items()}

    monkeypatch.setattr(experiment, "recalibrate", recalibrate)
    changes = {"strength": 0.5, "smooth": 2.0, "bound": 3.0, "recalibration_images": 3, "limit": 2}
    given = load_profile("mini") | changes, SimpleNamespace(segmenter=lambda: None), SimpleNamespace(folder=tmp_path)
    rules = experiment._rules(*given, None, None, {3: "clusters"})
    assert asked == [(["calibrated", "fused", "surplus"], "train-calibration", 3, {3: "clusters"})]
    assert list(rules) == list(RULES) and rules["raw"] is None
    assert (rules["calibrated"].strength, rules["calibrated"].smooth, rules["fused"].smooth) == (0.5, 2.0, 2.0)
    assert rules["surplus"].bound == 3.0 and rules["surplus"].recalibration.b_ == 3.0
    assert experiment._rules(*given, None, None, {}) == rules and len(asked) == 1


def test_a_split_with_a_skipped_image_is_not_evaluated(tmp_path, monkeypatch, capsys):
    asked = []

    def refine(*_, on_error, **__):
        asked.append(on_error)
        return [Failure(0, "a", "damaged")]

    monkeypatch.setattr(experiment, "_learned", lambda *_: (None, None, {}))
    monkeypatch.setattr(experiment, "_rules", lambda *_: {"raw": None})
    monkeypatch.setattr(experiment, "refine", refine)
    words = [f"--set=run_dir={tmp_path}", '--set=test_splits=["mini/synobjs", "mini/SMIYC"]', "--skip-damaged"]
    assert main(["experiment", "mini", *words]) == 0
    assert asked == ["skip", "skip"]
    found = json.loads((tmp_path / "experiment.json").read_text())
    assert list(found) == ["raw"] and not any("synobjs" in key for key in found["raw"])


def test_the_command_needs_no_workers_and_no_labels(tmp_path, capsys, monkeypatch):
    seeds, calibrated, left_out = [], [], []

    def seen(plain):
        def with_seed(*args, **options):
            drawn = {key: options[key] for key in ("n_per_class", "seed")}
            seeds.append((getattr(args[0], "random_state", None), drawn))
            return plain(*args, **options)

        return with_seed

    plain_calibrate = ClassKMeans.calibrate

    def calibrate(self, x, y, *args):
        calibrated.append(y)
        return plain_calibrate(self, x, y, *args)

    plain_leaving_out = ClassKMeans.leaving_out

    def leaving_out(self, x, y, image):
        left_out.append(y)
        return plain_leaving_out(self, x, y, image)

    monkeypatch.setattr(ClassKMeans, "calibrate", calibrate)
    monkeypatch.setattr(ClassKMeans, "leaving_out", leaving_out)
    for name in ("extract", "fit"):
        monkeypatch.setattr(experiment, name, seen(getattr(experiment, name)))
    changes = {**TINY, "run_dir": str(tmp_path / "run"), "calibration_split": "mini/train-fit", "seed": 5}
    words = [f"--set={name}={json.dumps(value)}" for name, value in changes.items()]
    assert main(["experiment", "mini", *words]) == 0
    lines = capsys.readouterr().out.splitlines()[-6:]
    assert [line.split()[0] for line in lines] == ["semantic", *RULES]
    assert lines[1].split()[1:2] == ["-"] and len(list((tmp_path / "run" / "left_out").iterdir())) == 2
    assert len(list((tmp_path / "run/predictions/raw").rglob("*_conf.png"))) == TINY["limit"]
    before = [tmp_path / "run/embedder.safetensors", *(tmp_path / "run/left_out").iterdir()]
    last = (tmp_path / "run/kmeans.safetensors").stat().st_mtime_ns  # whoever finds it finds all of them
    assert all(path.stat().st_mtime_ns <= last for path in before)
    drawn = {"n_per_class": 40, "seed": 5}
    assert seeds == [(None, drawn), (None, drawn), (5, drawn)]
    fitted, held = (
        ShardedStore.open(tmp_path / f"run/shards/{n}_split").load(**drawn) for n in ("train", "calibration")
    )
    assert any(np.array_equal(y, held.predicted) for y in calibrated)
    assert [y.tolist() for y in left_out] == [fitted.label.tolist()]
    assert main(["experiment", "mini", "--workers", "0"]) == 1
    assert "--workers is 1 or more" in capsys.readouterr().err


def test_an_address_without_a_scheduler_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("iood_helpers.scale.clients.SECONDS_TO_CONNECT", 1)
    parameters = load_profile("mini") | TINY | {"run_dir": str(tmp_path)}
    with pytest.raises(ScaleError, match="No scheduler answers at tcp://127.0.0.1:9"):
        run_experiment(parameters, client="tcp://127.0.0.1:9")


def test_profiles_ask_for_their_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "iood_helpers.course.artifacts", None)
    with pytest.raises(ParameterError, match=r"need the extra \[book\]"):
        run_experiment({"run_dir": str(tmp_path)})
