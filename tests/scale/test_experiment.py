"""The experiment of a profile on workers has the numbers of the notebooks, goes on, and keeps runs apart."""

from __future__ import annotations

import json

import pytest
from conftest import SMALL

from iood_helpers.command.cli import main
from iood_helpers.course.artifacts import read_metrics
from iood_helpers.course.runner import load_profile
from iood_helpers.errors import ParameterError, ScaleError
from iood_helpers.scale import experiment, run_experiment

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
    (tmp_path / "predictions").mkdir()
    with pytest.raises(ScaleError, match="holds a run of the notebooks"):
        run_experiment(parameters)


def test_the_command_needs_no_workers_and_no_labels(tmp_path, capsys):
    changes = {**TINY, "run_dir": str(tmp_path / "run"), "calibration_split": "mini/train-fit"}
    words = [f"--set={name}={json.dumps(value)}" for name, value in changes.items()]
    assert main(["experiment", "mini", *words]) == 0
    lines = capsys.readouterr().out.splitlines()[-6:]
    assert [line.split()[0] for line in lines] == ["semantic", *RULES]
    assert lines[1].split()[1:2] == ["-"] and len(list((tmp_path / "run" / "left_out").iterdir())) == 2
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
