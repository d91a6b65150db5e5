"""Write or compare the pinned set: requirements.lock and the pip section of environment.yml hold the same lines."""

from __future__ import annotations

import argparse
import re
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The package itself, what a fresh environment has, and vendor packages that pip adds where torch needs them.
LEFT_OUT = re.compile(r"iood-helpers|pip|hypothesis|sortedcontainers|pytest-xdist|execnet|(nvidia|cuda)-.*|triton")
HEAD = """# The environment for conda users; the same versions as requirements.lock (`make lock` writes both).
name: iood
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write both files from this environment")
    if parser.parse_args().write:
        (ROOT / "requirements.lock").write_text("\n".join(installed()) + "\n")
    lines = (ROOT / "requirements.lock").read_text().split()
    (ROOT / "environment.yml").write_text(environment(lines))


if __name__ == "__main__":
    main()
