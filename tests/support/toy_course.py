"""A course of a few tiny notebooks, run by the real runner: for what would take too long with the real ones.

python tests/support/toy_course.py FOLDER [arguments of iood_helpers.run]
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

from iood_helpers.course import record
from iood_helpers.course import runner as run


def build(folder: Path, notebooks: dict[str, list[str]], profile: str) -> Path:
    """Write notebooks (name to code cells; the first one holds parameters), their list, and the profile ``mini``."""
    (folder / "notebooks" / "parameters").mkdir(parents=True)
    (folder / "book").mkdir()
    for name, sources in notebooks.items():
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        book.cells[0].metadata["tags"] = ["parameters"]
        book.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
        nbformat.write(book, folder / "notebooks" / f"{name}.ipynb")
    chapters = "".join(f"      - file: notebooks/{name}\n" for name in notebooks)
    (folder / "book" / "_toc.yml").write_text(f"root: intro\nparts:\n  - chapters:\n{chapters}")
    (folder / "notebooks" / "parameters" / "mini.yml").write_text(profile)
    return folder


def places(folder: Path) -> list[tuple[object, str, Path]]:
    """Attributes of the runner that make it run this course."""
    return [
        (run, "ROOT", folder),
        (run, "NOTEBOOKS", folder / "notebooks"),
        (run, "BOOK", folder / "book"),
        (record, "ROOT", folder),
    ]


if __name__ == "__main__":
    for module, name, value in places(Path(sys.argv[1])):
        setattr(module, name, value)
    sys.exit(run.main(sys.argv[2:]))
