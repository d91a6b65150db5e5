"""The house: imports point one way, rooms are named in the README, and no module is long."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "iood_helpers"
MODULES = sorted(PACKAGE.rglob("*.py"))
BELOW = {
    "errors": set(),
    "compiled": set(),
    "renamed": set(),
    "io": {"errors"},
    "datasets": {"errors", "io"},
    "checks": {"errors", "datasets"},
    "model": {"errors", "io", "compiled", "renamed", "datasets"},
    "method": {"errors", "io", "renamed", "datasets", "checks", "model"},
    "detectors": {"errors", "renamed", "datasets", "method", "model"},
    "bravo": {"errors", "io", "compiled", "datasets", "checks"},
    "anomaly": {"errors", "datasets", "checks", "bravo"},
    "course": {"errors", "io", "renamed", "datasets", "model", "method", "detectors", "bravo", "anomaly"},
    "command": {"errors", "io", "datasets", "checks", "model", "method", "bravo", "course", "scale"},
    "scale": {"errors", "io", "datasets", "model", "method", "bravo", "course"},
}
"""Rooms and modules at the top, and those that each may import from: nothing above it, nothing beside it."""

ALIASES = {"__init__", "__main__", "internimage", "dcnv3", "submission", "run", "checkpoints", "plan"}


def place(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


def imported(path: Path) -> set[tuple[str, ...]]:
    """Modules of the package that a file imports, also inside of functions; not those for type checkers."""
    tree, found = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = place(path)[: len(place(path)) - node.level]
            found.add((*base, *(node.module or "").split(".")) if node.module else base)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(place(path)))
def test_imports_point_one_way(path):
    room = place(path)[0]
    if room in ALIASES:
        return
    for target in imported(path):
        if target and target[0] != room:
            assert target[0] in BELOW[room], f"{'.'.join(place(path))} imports {'.'.join(target)}"


def test_no_room_imports_itself_through_another():
    """The table itself has no circle."""
    done: set[str] = set()
    while len(done) < len(BELOW):
        free = {room for room, below in BELOW.items() if below <= done} - done
        assert free
        done |= free


def test_every_room_has_its_place():
    assert {place(path)[0] for path in MODULES} - ALIASES == set(BELOW)


def test_the_fast_ways_are_not_needed_by_the_plain_ones():
    """Only the segmenter and the operator choose them."""
    users = {place(path) for path in MODULES for target in imported(path) if target[:2] == ("model", "fast")}
    assert {user for user in users if user[:2] != ("model", "fast")} <= {("model", "segmenter"), ("model", "dcnv3")}


def test_the_readme_names_the_rooms():
    text = (ROOT / "README.md").read_text()
    rooms = ("model", "model/fast", "datasets", "method", "detectors", "bravo", "anomaly", "course", "command", "scale")
    for room in rooms:
        assert f"`{room}/`" in text, room


def test_every_room_has_a_page_of_reference():
    """Each names modules that exist."""
    pages = {path.stem: path.read_text() for path in (ROOT / "book/api").glob("*.md")}
    assert set(pages) == {room for room in BELOW if (PACKAGE / room).is_dir()} | {"errors"}
    known = {".".join(("iood_helpers", *place(path))).removesuffix(".__init__") for path in MODULES}
    for page, text in pages.items():
        named = re.findall(r"automodule:: (\S+)", text)
        assert named[0] == f"iood_helpers.{page}" and set(named) <= known, page
    toc = (ROOT / "book/_toc.yml").read_text()
    assert {f"api/{page}" for page in pages} == set(re.findall(r"api/\w+", toc))


def test_no_module_is_long():
    for path in [*MODULES, *(ROOT / "data").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path
