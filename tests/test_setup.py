"""The files that set up the project agree with each other."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata, version

import pytest
import yaml
from conftest import ROOT
from lockfile import environment, licenses

LOCK = (ROOT / "requirements.lock").read_text().split()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned() -> dict[str, str]:
    return dict(line.split("==") for line in LOCK)


def test_lock_holds_names_and_versions_only():
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.]*", line) for line in LOCK)
    assert pinned()["torch"] == "2.13.0" and "torchvision" not in pinned()


def test_environment_yml_pins_the_same():
    text = (ROOT / "environment.yml").read_text()
    assert text == environment(LOCK)
    assert yaml.safe_load(text)["dependencies"][-1]["pip"] == LOCK


def test_the_license_of_every_package_is_listed():
    for text in ((ROOT / "book" / "licences.md").read_text(), licenses(LOCK)):
        rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ")][1:]
        assert {name.strip() for _, names in rows for name in names.split(",")} == set(pinned())
        assert all(license.strip() for license, _ in rows)


def requirements() -> list[str]:
    return PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_is_locked_within_its_range_and_installed(requirement):
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    assert pinned()[wanted.name] in wanted.specifier
    assert version(wanted.name).split("+")[0] == pinned()[wanted.name]


def test_every_pin_admits_the_oldest_python():
    """Distributions keep the first releases of a version for years, and pip refuses what asks for a later one."""
    from packaging.specifiers import SpecifierSet

    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    asked = {name: SpecifierSet(metadata(name)["Requires-Python"] or "") for name in pinned()}
    assert not {name: str(wanted) for name, wanted in asked.items() if oldest not in wanted}


def test_importing_the_package_is_light():
    import subprocess
    import sys

    code = "import sys, iood_helpers; print('torch' in sys.modules, len(iood_helpers.__all__) > 5)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "True"]


def test_every_public_name_exists():
    import iood_helpers

    for name in iood_helpers.__all__:
        assert getattr(iood_helpers, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = iood_helpers.nothing
