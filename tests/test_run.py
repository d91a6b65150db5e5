"""The runner: profiles, parameters, failures, the record; and what notebooks import from notebook.py."""

from __future__ import annotations

import json

import nbformat
import numpy as np
import pytest

from iood_helpers import notebook, run
from iood_helpers.datasets import load_dataset
from iood_helpers.errors import ArtifactError, ParameterError


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A course of two notebooks; the second fails on demand."""
    (tmp_path / "notebooks" / "parameters").mkdir(parents=True)
    (tmp_path / "book").mkdir()
    cells = {
        "00_one": [
            "run_dir = 'runs/toy'\nvalue = 1",
            "from pathlib import Path\nPath(run_dir, 'one').write_text(str(value))",
        ],
        "01_two": ["run_dir = 'runs/toy'\nfail = False", "assert not fail, 'as asked'"],
    }
    for name, sources in cells.items():
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        book.cells[0].metadata["tags"] = ["parameters"]
        book.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
        nbformat.write(book, tmp_path / "notebooks" / f"{name}.ipynb")
    chapters = "".join(f"      - file: notebooks/{name}\n" for name in cells)
    (tmp_path / "book" / "_toc.yml").write_text(f"root: intro\nparts:\n  - chapters:\n{chapters}")
    (tmp_path / "notebooks" / "parameters" / "mini.yml").write_text(f"run_dir: {tmp_path}/runs/toy\nvalue: 5\n")
    for name, value in {"ROOT": tmp_path, "NOTEBOOKS": tmp_path / "notebooks", "BOOK": tmp_path / "book"}.items():
        monkeypatch.setattr(run, name, value)
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    return tmp_path


def test_runs_in_order_and_keeps_a_record(toy, capsys):
    assert run.main([]) == 0
    assert (toy / "runs/toy/one").read_text() == "5"
    record = json.loads((toy / "runs/toy/run.json").read_text())
    assert list(record["notebooks"]) == ["00_one", "01_two"] and record["status"] == "complete"
    assert record["parameters"]["value"] == 5 and record["versions"]["torch"] and record["commit"] is None
    assert all(entry["seconds"] > 0 for entry in record["notebooks"].values())
    assert (toy / "runs/toy/notebooks/01_two.ipynb").is_file()


def test_stops_at_a_failure_and_shows_the_cell(toy, capsys):
    assert run.main(["--set", "fail=true"]) == 1
    error = capsys.readouterr().err
    assert "01_two, cell" in error and "assert not fail" in error and "as asked" in error
    assert json.loads((toy / "runs/toy/run.json").read_text())["status"] == "failed in 01_two"


def test_the_record_keeps_notebooks_that_were_not_run_again(toy, capsys):
    def recorded():
        return json.loads((toy / "runs/toy/run.json").read_text())["notebooks"]

    assert run.main([]) == 0 and run.main(["--only", "01"]) == 0
    assert list(recorded()) == ["00_one", "01_two"]
    assert run.main(["--only", "01", "--set", "value=7"]) == 0
    assert list(recorded()) == ["01_two"]  # 00_one was run with another value


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
        notebook.artifact(tmp_path / "kmeans.safetensors", made_by="04_fit_kmeans")


def test_splits_with_unknown_objects():
    chosen = notebook.with_unknown_objects
    assert chosen(["mini/ACDCfog", "mini/SMIYC", "mini/newobjs"], limit=2) == ["mini/SMIYC"]
    assert chosen(["mini/ACDCfog", "mini/newobjs"], limit=2) == ["mini/newobjs"]
    assert chosen(["mini/ACDCfog"], limit=2) == []


def test_the_scene_to_show_has_something_unknown_if_any_has():
    assert notebook.scene_to_show("mini/devobjs").invalid().mean() > 0.02
    assert notebook.scene_to_show("mini/val").name == load_dataset("mini/val")[0].name


def test_metrics_come_back(tmp_path):
    notebook.write_metrics(tmp_path, "05_x", {"a": 0.5, "b": None})
    assert notebook.read_metrics(tmp_path, "05_x") == {"a": 0.5, "b": None}


def test_figures_for_the_book_are_html_without_the_library(monkeypatch):
    import plotly.graph_objects as go

    shown = []
    monkeypatch.setattr(notebook, "display", lambda item: shown.append(item.data))
    monkeypatch.setenv("IOOD_BOOK", "1")
    notebook.show(go.Figure(go.Bar(x=[1], y=[2])), alt='one "bar"')
    notebook.show_images([(np.zeros((8, 8, 3), np.uint8), "black")], alt="nothing")
    notebook.image_slider([("a", np.zeros((8, 8, 3), np.uint8))], alt="steps")
    assert 'aria-label="one &quot;bar&quot;"' in shown[0] and len(shown[0]) < 50_000
    assert 'alt="nothing black"' in shown[1] and "data:image/png" in shown[1]
    assert 'type="range"' in shown[2]
