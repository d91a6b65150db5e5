"""Write the pinned set: requirements.lock, the pip section of environment.yml, and the licences of all of it."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from importlib.metadata import PackageMetadata, distributions, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# The package itself, what a fresh environment has, what `make setup` adds without what it asks for, and vendor packages
# that pip adds where torch needs them.
LEFT_OUT = re.compile(r"iood-helpers|pip|axe-playwright-python|hypothesis|pytest-xdist|execnet|(nvidia|cuda)-.*|triton")
HEAD = """# The environment for conda users; the same versions as requirements.lock (`make lock` writes both).
name: iood
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""
LICENSES = """# Licences of what is installed

The project installs the packages of `requirements.lock` and ships none of them. Each is listed under the licence that
its own metadata declares (`make lock` writes this page); read the files of a package for its terms. The project
does ship a build of Plotly.js, which draws the book's figures (`book/_static/plotly`, MIT License).

| Licence as declared | Packages |
|---|---|
"""


def installed() -> list[str]:
    """Lines ``name==version`` of this environment, without local suffixes such as ``+cpu``."""
    found = {}
    for distribution in distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if not LEFT_OUT.fullmatch(name):
            found[name] = distribution.version.split("+")[0]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def environment(lines: list[str]) -> str:
    """Text of environment.yml for pinned lines."""
    return HEAD + "".join(f"      - {line}\n" for line in lines)


def license(about: PackageMetadata) -> str:
    """Licence that a distribution declares: the expression, else the classifiers, else the first line of its text."""
    if about.get("License-Expression"):
        return about["License-Expression"].removeprefix("LicenseRef-")
    classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    named = "; ".join(c for c in classifiers if c != "OSI Approved")
    return named or (about.get("License") or "not declared").strip().splitlines()[0]


def licenses(lines: list[str]) -> str:
    """Text of book/licences.md for pinned lines: what each installed distribution says of itself."""
    by_license = defaultdict(list)
    for line in lines:
        name = line.split("==")[0]
        by_license[license(metadata(name))].append(name)
    rows = [f"| {text} | {', '.join(names)} |" for text, names in sorted(by_license.items())]
    return LICENSES + "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the lock from this environment, too")
    if parser.parse_args().write:
        (ROOT / "requirements.lock").write_text("\n".join(installed()) + "\n")
    lines = (ROOT / "requirements.lock").read_text().split()
    (ROOT / "environment.yml").write_text(environment(lines))
    (ROOT / "book" / "licences.md").write_text(licenses(lines))


if __name__ == "__main__":
    main()
