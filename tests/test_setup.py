"""The files that set up the project agree with each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, packages_distributions, requires, version

import pytest
import yaml
from conftest import ROOT
from lockfile import environment, licenses
from packaging.requirements import Requirement

LOCK = (ROOT / "requirements.lock").read_text().split()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned() -> dict[str, str]:
    return dict(line.split("==") for line in LOCK)


def test_citation_and_changes_are_of_this_version():
    import iood_helpers

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["type"] == "software" and citation["version"] == iood_helpers.__version__
    headings = re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f"{citation['version']} - {citation['date-released']}" in headings[:2]


def test_lock_holds_names_and_versions_only():
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.]*", line) for line in LOCK)
    assert pinned()["torch"] == "2.13.0" and "torchvision" not in pinned()


def test_environment_yml_pins_the_same():
    text = (ROOT / "environment.yml").read_text()
    assert text == environment(LOCK)
    assert yaml.safe_load(text)["dependencies"][-1]["pip"] == LOCK


def test_binder_installs_the_package():
    """repo2docker makes the environment of environment.yml, and then runs postBuild, which must be executable."""
    script = ROOT / "postBuild"
    assert os.access(script, os.X_OK) and "install" in script.read_text() and "--editable ." in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists()  # else only these are looked into


WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def made(workflow: str, job: str) -> set[str]:
    """Targets that a job of a workflow makes, those of its matrix included."""
    about = WORKFLOWS[workflow]["jobs"][job]
    words = [word for step in about["steps"] for word in re.findall(r"^make (.*)", step.get("run", ""))]
    named = {target for line in words for target in line.split() if re.fullmatch("[a-z-]+", target)}
    return named | set(about.get("strategy", {}).get("matrix", {}).get("target", []))


def test_workflows_make_targets_that_exist():
    jobs = {name: made(*name) for name in ((file, job) for file in WORKFLOWS for job in WORKFLOWS[file]["jobs"])}
    assert set().union(*jobs.values()) <= TARGETS
    assert jobs["tests", "tests"] == {"test"} and jobs["tests", "lint"] == {"lint", "types"}
    assert jobs["book", "build"] == {"publish-check"} and {"links", "test-portable"} <= jobs["nightly", "full"]


def test_workflows_test_every_python_from_the_oldest_on():
    pythons = WORKFLOWS["tests"]["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert pythons[0] == PROJECT["requires-python"].removeprefix(">=") and len(pythons) == 3


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md", ".ci/run"])
def test_documents_name_targets_that_exist(name):
    named = re.findall(r"(?:^ *|`)make ((?:[a-z-]+ ?)+)", (ROOT / name).read_text(), re.MULTILINE)
    assert named and {target for names in named for target in names.split()} <= TARGETS


def test_the_license_of_every_package_is_listed():
    for text in ((ROOT / "book" / "licences.md").read_text(), licenses(LOCK)):
        rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ")][1:]
        assert {name.strip() for _, names in rows for name in names.split(",")} == set(pinned())
        assert all(license.strip() for license, _ in rows)


def requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"].values()
    return [line for part in (PROJECT["dependencies"], *extras) for line in part if not line.startswith("iood-helpers")]


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_is_locked_within_its_range_and_installed(requirement):
    wanted = Requirement(requirement)
    assert pinned()[wanted.name] in wanted.specifier
    assert version(wanted.name).split("+")[0] == pinned()[wanted.name]


def test_every_pin_admits_the_oldest_python():
    """Distributions keep the first releases of a version for years, and pip refuses what asks for a later one."""
    from packaging.specifiers import SpecifierSet

    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    asked = {name: SpecifierSet(metadata(name).get("Requires-Python") or "") for name in pinned()}
    assert not {name: str(wanted) for name, wanted in asked.items() if oldest not in wanted}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def brought(wanted: Requirement) -> set[str]:
    """Names of the packages that a requirement brings: its own, and what that asks for."""
    found = {normal(wanted.name)}
    for needed in map(Requirement, requires(wanted.name) or []):
        if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in wanted.extras or {""}):
            found |= brought(needed)
    return found


PLAIN = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

absent, find = set(sys.argv[1:]), PathFinder.find_spec
PathFinder.find_spec = lambda name, *args: None if name.partition(".")[0] in absent else find(name, *args)

import numpy as np
import iood_helpers
from iood_helpers import ClassKMeans, PixelEmbedder, load_segmenter, refine_confidence

for module in pkgutil.walk_packages(iood_helpers.__path__, "iood_helpers."):
    if module.name != "iood_helpers.run" and not module.name.startswith("iood_helpers.course"):
        importlib.import_module(module.name)

rng = np.random.default_rng(0)
prediction = load_segmenter("nano").predict(rng.integers(0, 256, (64, 128, 3), dtype=np.uint8))
embedder = PixelEmbedder()
pixels = rng.integers(0, 64, (200, 2))
classes = prediction.classes[tuple(pixels.T)]
kmeans = ClassKMeans(n_clusters=2).fit(embedder.transform(prediction, pixels), classes)
print(*refine_confidence(prediction, kmeans, embedder, "published")[0].shape)
try:
    import iood_helpers.run
except ModuleNotFoundError as error:
    print(error)
"""
"""The method, where nothing can be imported but what a plain ``pip install .`` brings."""


@pytest.mark.slow
def test_the_method_needs_only_what_the_plain_package_brings():
    plain = set().union(*map(brought, map(Requirement, PROJECT["dependencies"])))
    assert {"torch", "zarr"} < plain and not {"jupyterlab", "plotly", "umap-learn", "pytest", "scikit-image"} & plain
    absent = [
        module
        for module, owners in packages_distributions().items()
        if module not in sys.stdlib_module_names and not (plain | {"iood-helpers"}) & set(map(normal, owners))
    ]
    out = subprocess.run([sys.executable, "-c", PLAIN, *absent], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    shape, message = out.stdout.splitlines()
    assert shape == "64 128" and "pip install '.[book]'" in message


def test_importing_the_package_is_light():
    code = "import sys, iood_helpers; print('torch' in sys.modules, len(iood_helpers.__all__) > 5)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "True"]


def test_every_public_name_exists():
    import iood_helpers

    for name in iood_helpers.__all__:
        assert getattr(iood_helpers, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = iood_helpers.nothing
