"""Every notebook runs, has the parts a reader expects, and gives the numbers that were recorded."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys

import nbformat
import pytest
import yaml
from comparison import differences
from conftest import ROOT, SMALL

from iood_helpers.bravo.protocol import expand_splits
from iood_helpers.course.runner import declared_parameters, load_profile, notebook_order, profiles, run

NAMES = notebook_order()
ALL = [*NAMES, "template"]
BASELINES = ROOT / "tests" / "baselines"
ALLOWED = {
    "00": {"85 %", "2.5"},  # the quantile and the strength of the calibrated rule
    "01": {"0.8", "0.9"},  # confidences that stand for any
    "05": {"0.5", "1.1", "0.0001", "85 %", "99 %"},  # what the published and the calibrated rule are made of
    "06": {"0.6933", "0.5621", "0.6208", "0.6934", "0.5710", "0.6263"},  # published results of the entry
    "07": {"0.5", "0.8", "1.1", "0.6208", "0.6263", "95 %"},  # the published rule, its published results, intervals
    "10": {"95 %"},  # intervals
}
"""Decimals and percentages that may be typed, by notebook: settings and what others published, nothing measured."""

FOLDED = ("show(", "show_explorable(", "show_images(", "show_table(", "image_slider(", "write_metrics(")
AVOIDED = r"strange(?:r|rs)?|held|held-out|rivals?|doubts?|pays|judge[ds]?|ordinary|enlarg\w+"
"""Words for which CONTRIBUTING.md has others."""


def cells(name, kind=None):
    found = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return [cell for cell in found if kind in (None, cell.cell_type)]


def tags(cell):
    return cell.metadata.get("tags", [])


def prose(name):
    """Text of a notebook without code, formulas, addresses and references."""
    text = "\n\n".join(cell.source for cell in cells(name, "markdown")).partition("## References")[0]
    return re.sub(r"(?s)\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)", " ", text)


def imports(cell):
    """Number of import statements."""
    return sum(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(ast.parse(cell.source)))


def test_toc_and_files_agree():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == ALL


@pytest.mark.parametrize("name", ALL)
def test_parts(name):
    text = "\n".join(cell.source for cell in cells(name, "markdown"))
    headings = re.findall(r"^## (.+)$", text, re.M)
    wanted = ["Goals", "Prerequisites", "Exercises", "Common mistakes", "Questions", "Summary", "What comes next"]
    assert [heading for heading in headings if heading in (*wanted, "References")] == [*wanted, "References"]
    assert re.search(r"## Prerequisites\n\n.*minutes", text)
    assert sum("hide-cell" in tags(cell) for cell in cells(name)) >= 1


@pytest.mark.parametrize("name", ALL)
def test_sources_are_clean(name):
    for cell in cells(name, "code"):
        assert not cell.outputs and cell.execution_count is None
    assert declared_parameters(name)


@pytest.mark.parametrize("name", ALL)
def test_the_first_code_is_the_setup(name):
    setup = cells(name, "code")[0]
    assert setup.source == cells("template", "code")[0].source and "remove-cell" in tags(setup)


@pytest.mark.parametrize("there", [True, False])
def test_the_setup_installs_what_is_missing(there, monkeypatch):
    asked, done = [], []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ... if there else None)
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "https://host.invalid/some-one/course")
    monkeypatch.setattr("subprocess.run", lambda command, check: done.append(command))
    monkeypatch.setattr("sys.path", ["elsewhere"])
    exec(cells("template", "code")[0].source, {})
    if there:
        assert not asked and not done and sys.path == ["elsewhere"]
    else:
        clone, install = done
        assert clone[:2] == ["git", "clone"] and clone[-2:] == ["https://host.invalid/some-one/course", "course"]
        assert install[:4] == [sys.executable, "-m", "pip", "install"] and install[-1] == "course[book,scale]"
        assert sys.path == ["course", "elsewhere"]


@pytest.mark.parametrize("name", ALL)
def test_cells_are_short(name):
    for cell in cells(name, "code"):
        if "parameters" in tags(cell):
            continue  # a list, folded in the book
        lines = len(cell.source.splitlines())
        assert lines <= (12 if imports(cell) > 2 else 15), cell.source


@pytest.mark.parametrize("name", ALL)
def test_the_book_folds_what_is_no_lesson(name):
    for cell in cells(name, "code"):
        if "parameters" in tags(cell) or imports(cell) > 2 or any(call in cell.source for call in FOLDED):
            assert {"hide-input", "hide-cell"} & set(tags(cell)), cell.source


@pytest.mark.parametrize("name", ALL)
def test_measured_numbers_in_the_text_come_from_the_run(name):
    typed = re.findall(r"\d+\.\d+(?: ?%)?|\d+ ?%", prose(name))
    assert set(typed) <= ALLOWED.get(name[:2], set())


@pytest.mark.parametrize("name", ALL)
def test_a_sentence_is_complete_without_its_number(name):
    """JupyterLab shows the role instead of the number: it stands in parentheses."""
    for cell in cells(name, "markdown"):
        outside = re.sub(r"\([^()]*\)", "", cell.source)
        assert "{glue:text}" not in outside, cell.source


@pytest.mark.parametrize("name", ALL)
def test_words(name):
    code = "\n".join(cell.source for cell in cells(name, "code"))
    assert not re.findall(rf"(?i)\b(?:{AVOIDED})\b", prose(name) + code.replace("_", " ").replace("held out dist", ""))


@pytest.mark.parametrize("name", ALL)
def test_defaults_are_those_of_the_mini_profile(name):
    mini = load_profile("mini")
    for parameter, default in declared_parameters(name).items():
        assert mini[parameter] == default, parameter


@pytest.mark.parametrize("profile", profiles())
def test_profiles_name_declared_parameters_and_all_of_them(profile):
    assert set(load_profile(profile)) == set(load_profile("mini"))


def test_the_chain_runs_and_leaves_its_artefacts(chain):
    record = json.loads((chain / "run.json").read_text())
    assert record["status"] == "complete" and list(record["notebooks"]) == NAMES
    for artefact in (
        "model.json",
        "embeddings.zarr",
        "calibration.zarr",
        "kmeans.safetensors",
        "predictions/calibrated/bravo_SMIYC",
    ):
        assert (chain / artefact).exists(), artefact


def test_every_number_that_the_text_quotes_is_there(chain):
    for name in NAMES:
        executed = nbformat.read(chain / "book" / f"{name}.ipynb", as_version=4).cells
        outputs = [out for cell in executed for out in cell.get("outputs", [])]
        glued = [out.metadata["scrapbook"]["name"] for out in outputs if "scrapbook" in out.get("metadata", {})]
        quoted = re.findall(r"\{glue:text\}`([^`]+)`", "".join(c.source for c in executed if c.cell_type == "markdown"))
        assert sorted(glued) == sorted(set(quoted)), name  # each is given once, and none for nothing


def test_the_template_runs(tmp_path):
    run(["template"], {**load_profile("mini"), "run_dir": str(tmp_path)}, profile="mini")
    assert json.loads((tmp_path / "metrics" / "template.json").read_text())["images"] > 0


@pytest.mark.parametrize("path", sorted(BASELINES.glob("small_*.json")), ids=lambda path: path.stem)
def test_metrics_of_the_small_run(chain, path):
    name = path.stem.removeprefix("small_")
    assert differences(json.loads((chain / "metrics" / f"{name}.json").read_text()), json.loads(path.read_text())) == []


def test_every_notebook_with_metrics_has_a_baseline(chain):
    assert {p.stem for p in (chain / "metrics").glob("*.json")} == {
        p.stem.removeprefix("small_") for p in BASELINES.glob("small_*.json")
    }


def test_predictions_are_written_where_a_benchmark_withholds_labels(chain, tmp_path):
    for part in ("bravo", "cityscapes"):
        shutil.copytree(ROOT / "data" / "mini" / part, tmp_path / "data" / part)
    for path in (tmp_path / "data" / "bravo").rglob("*.png"):
        path.unlink()  # label maps and masks; the images are JPEG files
    for name in ("embedder.safetensors", "kmeans.safetensors"):
        shutil.copy(chain / name, tmp_path)
    parameters = {
        **load_profile("cityscapes_bravo"),
        **SMALL,
        "checkpoint": "nano",
        "limit": 2,
        "data_root": str(tmp_path / "data"),
        "run_dir": str(tmp_path),
    }
    run([name for name in NAMES if name.startswith("05")], parameters, profile="cityscapes_bravo")
    images = 2 * len(expand_splits(parameters["test_splits"]))
    assert len(list((tmp_path / "predictions").rglob("*_conf.png"))) == 6 * images
    metrics = json.loads((tmp_path / "metrics" / "05_refine_confidences.json").read_text())
    assert metrics["calibrated_auprc_ood"] is None and metrics["false_alarms"] < 0.2


@pytest.mark.real_data
def test_the_chain_runs_on_photographs(real_data, tmp_path):
    if not (real_data / "camvid").is_dir():
        pytest.skip(f"{real_data} holds no camvid folder")
    where = {"run_dir": str(tmp_path), "data_root": str(real_data)}
    few = {"limit": 3, "demo_images": 4, "check_images": 2, "plan_images": 2, "scale_images": 1}
    run(NAMES, {**load_profile("camvid"), **SMALL, **where, **few}, profile="camvid")
    metrics = json.loads((tmp_path / "metrics" / "01_load_checkpoint.json").read_text())
    assert metrics["miou"] > 0.3  # a network that has learned nothing of photographs reaches 0.1


def test_comparison_finds_what_it_should():
    baseline = yaml.safe_load("{values: {a: {value: 1, tolerance: 0.1}}, relations: [[a, '>', b], [b, '<=', 0.5]]}")
    assert differences({"a": 1.05, "b": 0.5}, baseline) == []
    assert len(differences({"a": 1.2, "b": 2}, baseline)) == 3
    assert differences({"b": 0.1, "a": float("nan")}, baseline)
    assert differences({"a": 1.0, "b": 0.3}, {"relations": [["a", ">", "b", 0.8]]})


@pytest.mark.real_data
def test_unknown_objects_are_found_on_photographs(real_data, tmp_path):
    for folder in ("cityscapes", "roadanomaly", "efficientvit_b0"):
        if not (real_data / folder).is_dir():
            pytest.skip(f"{real_data} holds no {folder} folder")
    small = {"n_per_class": 200, "n_shared": 200, "n_clusters": 4, "limit": 3}
    where = {
        "run_dir": str(tmp_path),
        "data_root": str(real_data),
        "test_splits": ["roadanomaly/all", "cityscapes/val"],
    }
    chosen = [name for name in NAMES if name[:2] in ("02", "04", "05")]
    run(chosen, load_profile("roadanomaly") | small | where, profile="roadanomaly")
    found = json.loads((tmp_path / "metrics" / "05_refine_confidences.json").read_text())
    assert len(list((tmp_path / "left_out").iterdir())) == 3  # each image measured by clusters that have not seen it
    assert found["surplus_auroc_ood"] > 0.85 > found["raw_auroc_ood"] + 0.2
    assert found["distance_fpr95_ood"] < 0.5 < 0.9 < found["raw_fpr95_ood"]
    assert (
        found["distance_auroc_within_class"] > 0.6
        and 0.8 < found["class_prior_auroc_ood"] < found["distance_auroc_ood"]
    )
    assert abs(found["published_auprc_ood"] - found["raw_auprc_ood"]) < 0.02
