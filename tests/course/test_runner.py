"""The runner: profiles, parameters, failures, the record; and what notebooks import from the course room."""

from __future__ import annotations

import json
import os

import nbformat
import numpy as np
import pytest
from toy_course import build, places

from iood_helpers.course import artifacts, display, parameters
from iood_helpers.course import runner as run
from iood_helpers.datasets import load_dataset
from iood_helpers.errors import ArtifactError, FileError, ParameterError
from iood_helpers.io import exclusive


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A course of two notebooks; the second fails on demand."""
    cells = {
        "00_one": [
            "run_dir = 'runs/toy'\nvalue = 1",
            "from pathlib import Path\nPath(run_dir, 'one').write_text(str(value))",
        ],
        "01_two": ["run_dir = 'runs/toy'\nfail = False", "assert not fail, 'as asked'"],
    }
    build(tmp_path, cells, f"run_dir: {tmp_path}/runs/toy\nvalue: 5\n")
    for module, name, value in places(tmp_path):
        monkeypatch.setattr(module, name, value)
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    return tmp_path


def recorded(toy):
    return json.loads((toy / "runs/toy/run.json").read_text())


def test_runs_in_order_and_keeps_a_record(toy, capsys):
    assert run.main([]) == 0
    assert (toy / "runs/toy/one").read_text() == "5"
    content = recorded(toy)
    assert list(content["notebooks"]) == ["00_one", "01_two"] and content["status"] == "complete"
    assert content["parameters"]["value"] == 5 and content["versions"]["torch"] and content["commit"] is None
    for entry in content["notebooks"].values():
        assert entry["seconds"] > 0 and 0.01 < entry["peak_gib"] < 4 and entry["passes"] == 0
    assert (toy / "runs/toy/notebooks/01_two.ipynb").is_file()


def test_stops_at_a_failure_and_shows_the_cell(toy, capsys):
    assert run.main(["--set", "fail=true"]) == 1
    error = capsys.readouterr().err
    assert "01_two, cell" in error and "assert not fail" in error and "as asked" in error
    assert recorded(toy)["status"] == "failed in 01_two" and "as asked" in recorded(toy)["error"]


@pytest.mark.slow
def test_the_record_keeps_notebooks_that_were_not_run_again(toy, capsys):
    assert run.main([]) == 0 and run.main(["--only", "01"]) == 0
    assert list(recorded(toy)["notebooks"]) == ["00_one", "01_two"]
    assert not any("stale" in entry for entry in recorded(toy)["notebooks"].values())
    assert run.main(["--only", "00"]) == 0
    assert recorded(toy)["notebooks"]["01_two"]["stale"]  # it read what 00_one has written anew
    assert run.main(["--only", "01", "--set", "value=7"]) == 0
    assert list(recorded(toy)["notebooks"]) == ["01_two"]  # 00_one was run with another value


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"parameters": 3}', '{"parameters": {}, "notebooks": [1]}', "\0"]
)
def test_a_damaged_record_is_replaced(toy, capsys, content):
    (toy / "runs/toy/run.json").write_text(content)
    assert run.main([]) == 0 and recorded(toy)["status"] == "complete"


@pytest.mark.slow
def test_the_record_says_running_before_anything_changes(toy, capsys, monkeypatch):
    assert run.main([]) == 0
    seen = []
    monkeypatch.setattr(run, "_execute", lambda name, *_: seen.append((name, recorded(toy))))
    assert run.main(["--set", "value=6"]) == 0
    assert [content["status"] for _, content in seen] == ["running", "running"]
    assert all(name not in content["notebooks"] for name, content in seen)
    assert seen[0][1]["parameters"]["value"] == 6 and seen[0][1]["notebooks"] == {}


def test_macos_counts_memory_in_bytes(monkeypatch):
    class Used:
        ru_maxrss = 2 * 2**30

    monkeypatch.setattr(run.resource, "getrusage", lambda who: Used)
    monkeypatch.setattr(run.sys, "platform", "darwin")
    assert run._largest_child() == 2
    monkeypatch.setattr(run.sys, "platform", "linux")
    assert run._largest_child() == 2048


def test_a_folder_that_cannot_be_written_is_told_at_once(toy, capsys):
    (toy / "file").write_text("")
    assert run.main(["--run-dir", str(toy / "file" / "run")]) == 1
    assert "FileError" in capsys.readouterr().err and not (toy / "runs/toy/one").exists()


def test_two_runs_in_one_folder_do_not_meet(toy, capsys):
    with exclusive(toy / "runs/toy/.lock", "The run folder"):
        assert run.main([]) == 1
    assert "in use by process" in capsys.readouterr().err and not (toy / "runs/toy/one").exists()


@pytest.mark.slow
def test_the_environment_of_the_runner_stays_as_it_is(toy, capsys):
    before = dict(os.environ)
    assert run.main(["--book"]) == 0
    assert dict(os.environ) == before


@pytest.mark.slow
def test_paths_count_from_where_the_command_is_typed(toy, capsys, monkeypatch):
    work = toy / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(toy / "home"))
    assert run.main(["--run-dir", "here"]) == 0 and (work / "here" / "one").is_file()
    assert run.main(["--set", "run_dir=~/there"]) == 0 and (toy / "home/there/one").is_file()
    (work / "weights").write_text("")
    wanted = parameters.absolute(
        {"data_root": "~/data", "samples_archive": "s.tar", "checkpoint": "my.pth", "run_dir": "runs/x"}
    )
    assert wanted == {
        "data_root": str(toy / "home/data"),
        "samples_archive": str(work / "s.tar"),
        "checkpoint": str(work / "my.pth"),
        "run_dir": "runs/x",  # of a profile: below the repository
    }
    for name, meant in (("weights", str(work / "weights")), ("nano", "nano"), ("https://x/y.pth", "https://x/y.pth")):
        assert parameters.absolute({"checkpoint": name})["checkpoint"] == meant
    assert parameters.absolute({"data_root": None, "checkpoint": None}) == {"data_root": None, "checkpoint": None}


@pytest.mark.parametrize(
    "default, good, bad",
    [
        (3, [0, -1], [1.5, "3", True, None, [3]]),
        (2.5, [2, 0.1], ["2", True, None]),
        ("a", ["b", None], [1, ["a"], False]),
        (["a"], [[], ["b", 1]], ["a", None, {"a": 1}]),
        (True, [False], [0, "true", None]),
        (None, [None, 3, "x", [1]], []),
    ],
)
def test_values_are_of_the_type_of_their_default(default, good, bad):
    for value in good:
        parameters.check({"name": value}, {"name": default})
    for value in bad:
        with pytest.raises(ParameterError, match="The parameter name is"):
            parameters.check({"name": value}, {"name": default})


@pytest.mark.parametrize("content", ["a: [", "", "3", "3: 4", "value: \0", "- value", "value: &a [*a]" * 3])
def test_a_damaged_profile_is_named(toy, content):
    (toy / "notebooks/parameters/mini.yml").write_text(content)
    with pytest.raises(ParameterError, match=r"mini\.yml"):
        run.load_profile("mini")


@pytest.mark.parametrize(
    "text",
    ["&a [*a]", "[&a [x, x], *a]", "!!timestamp x", "!!bool x", "!!int x", "[" * 3000, "9" * 5000, "{[1]: 2}"],
)
def test_values_that_yaml_cannot_give_are_named(text):
    """Among them aliases: nine lines of them stand for gigabytes."""
    with pytest.raises(ParameterError, match="--set 'value="):
        parameters.parse([f"value={text}"])


@pytest.mark.parametrize("content", ["parts:\n- chapters:\n  - 3\n", "a: 1", "parts: x", "", "parts: ["])
def test_a_damaged_table_of_contents_is_named(toy, content):
    (toy / "book/_toc.yml").write_text(content)
    with pytest.raises(ParameterError, match=r"_toc\.yml"):
        run.notebook_order()


def test_an_unknown_parameter_of_a_profile_is_told_with_its_file(toy):
    (toy / "notebooks/parameters/mini.yml").write_text("valeu: 1\n")
    with pytest.raises(ParameterError, match=r"'valeu' in .*mini\.yml.*Did you mean 'value'"):
        run.load_profile("mini")


def test_a_folder_name_that_no_system_has_is_told():
    with pytest.raises(FileError, match="run folder"):
        artifacts.run_folder("a\0b")


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": 3}', ""])
def test_a_damaged_notebook_is_named(toy, content):
    (toy / "notebooks/00_one.ipynb").write_text(content)
    with pytest.raises(ParameterError, match="00_one"):
        run.declared_parameters("00_one")


@pytest.mark.slow
def test_only_from_and_list(toy, capsys):
    assert run.main(["--only", "01"]) == 0 and not (toy / "runs/toy/one").exists()
    assert run.main(["--from", "01_two"]) == 0 and not (toy / "runs/toy/one").exists()
    assert run.main(["--list"]) == 0 and "00_one" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--profile", "minni"], "Unknown profile 'minni'; known are mini. Did you mean 'mini'?"),
        (["--set", "valeu=1"], "Did you mean 'value'?"),
        (["--set", "value"], "NAME=VALUE"),
        (["--set", "value=["], "not YAML"),
        (["--set", "value=x"], "The parameter value is 'x', but must be a whole number, as its default 1 is."),
        (["--only", "07"], "Unknown notebook '07'"),
    ],
)
def test_wrong_names_are_refused_before_anything_runs(toy, capsys, arguments, message):
    assert run.main(arguments) == 1
    assert message in capsys.readouterr().err and not (toy / "runs/toy/run.json").exists()


def test_parameters_must_be_literals(toy):
    path = toy / "notebooks" / "00_one.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells[0].source = "value = len('abc')"
    nbformat.write(book, path)
    with pytest.raises(ParameterError, match="literals only"):
        run.declared_parameters("00_one")
    book.cells[0].metadata["tags"] = []
    nbformat.write(book, path)
    with pytest.raises(ParameterError, match="exactly one cell"):
        run.declared_parameters("00_one")


def test_a_missing_artefact_names_notebook_and_command(tmp_path):
    with pytest.raises(ArtifactError, match=r"04_fit_kmeans makes it: python -m iood_helpers.run --only 04"):
        artifacts.artifact(tmp_path / "kmeans.safetensors", made_by="04_fit_kmeans")


def test_splits_with_unknown_objects():
    chosen = artifacts.with_unknown_objects
    assert chosen(["mini/ACDCfog", "mini/SMIYC", "mini/newobjs"], limit=2) == ["mini/SMIYC"]
    assert chosen(["mini/ACDCfog", "mini/newobjs"], limit=2) == ["mini/newobjs"]
    assert chosen(["mini/ACDCfog"], limit=2) == []


def test_the_scene_to_show_has_something_unknown_if_any_has():
    assert artifacts.scene_to_show("mini/devobjs").invalid().mean() > 0.02
    assert artifacts.scene_to_show("mini/val").name == load_dataset("mini/val")[0].name


def test_metrics_come_back(tmp_path):
    artifacts.write_metrics(tmp_path, "05_x", {"a": 0.5, "b": None})
    assert artifacts.read_metrics(tmp_path, "05_x") == {"a": 0.5, "b": None}


@pytest.mark.parametrize("content", ["null", '{"a": "0.5"}', '{"a": [1]}', '{"a": true}', "[" * 100_000, "{"])
def test_metrics_that_are_no_numbers_are_named(tmp_path, content):
    artifacts.write_metrics(tmp_path, "05_x", {})
    (tmp_path / "metrics/05_x.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"05_x\.json"):
        artifacts.read_metrics(tmp_path, "05_x")


def test_figures_for_the_book_are_html_without_the_library(monkeypatch):
    import plotly.graph_objects as go

    shown = []
    monkeypatch.setattr(display, "display", lambda item: shown.append(item.data))
    monkeypatch.setenv("IOOD_BOOK", "1")
    display.show(go.Figure(go.Bar(x=[1], y=[2])), alt='one "bar"')
    display.show_images([(np.zeros((8, 8, 3), np.uint8), "black")], alt="nothing")
    display.image_slider([("a", np.zeros((8, 8, 3), np.uint8))], alt="steps")
    assert 'aria-label="one &quot;bar&quot;"' in shown[0] and len(shown[0]) < 50_000
    assert 'alt="nothing black"' in shown[1] and "data:image/png" in shown[1]
    assert 'type="range"' in shown[2]
