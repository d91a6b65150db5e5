"""Run the notebooks of a profile, in the order of the book: ``python -m iood_helpers.run --profile mini``.

Each notebook gets, through papermill, those parameters of ``notebooks/parameters/<profile>.yml`` that it declares. The
run folder holds the executed copies, the artefacts, the metrics, and ``run.json`` (see ``record.py``). The first
failure ends the run and shows the failing cell. Relative paths on the command line count from where it is typed.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat

from ..errors import IoodError, ParameterError
from ..io import exclusive, write_atomically
from . import kernels
from . import parameters as given
from .artifacts import ROOT, run_folder
from .record import Record

NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
WIDGET = "application/vnd.jupyter.widget-view+json"


def notebook_order() -> list[str]:
    """Names of the notebooks in the order of ``book/_toc.yml``, the only list of them; ParameterError if damaged."""
    toc = given.read_yaml(BOOK / "_toc.yml")
    try:
        chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
        return [Path(file).name for file in chapters if file.startswith("notebooks/")]
    except (KeyError, TypeError, AttributeError) as error:
        raise ParameterError(f"{BOOK / '_toc.yml'} lists no notebooks; restore it.") from error


def profiles() -> list[str]:
    """Names of the parameter files."""
    return sorted(path.stem for path in (NOTEBOOKS / "parameters").glob("*.yml"))


def declared_parameters(name: str) -> dict[str, Any]:
    """Names and defaults in the ``parameters`` cell of a notebook; see ``parameters.declared``."""
    return given.declared(NOTEBOOKS / f"{name}.ipynb")


def all_declared() -> dict[str, Any]:
    """Parameters of all notebooks with their defaults (of the first notebook that declares each)."""
    defaults: dict[str, Any] = {}
    for name in notebook_order():
        defaults = declared_parameters(name) | defaults
    return defaults


def load_profile(profile: str) -> dict[str, Any]:
    """Parameters of a profile; every name must be declared by some notebook, every value be of its default's type.

    Raises
    ------
    ParameterError
        If the profile is unknown or damaged, or a parameter in it is unknown or of another type.
    """
    if profile not in profiles():
        raise ParameterError(given.unknown("profile", profile, profiles()))
    path = NOTEBOOKS / "parameters" / f"{profile}.yml"
    parameters = given.read_yaml(path)
    given.check(parameters, all_declared(), f" in {path}")
    return parameters


def run(
    names: list[str], parameters: dict[str, Any], *, profile: str, book: bool | str | Path = False
) -> dict[str, Any]:
    """Execute notebooks one after another.

    Parameters
    ----------
    names : list of str
        Notebooks, in order.
    parameters : dict
        Values; each notebook gets the ones that it declares. ``run_dir`` names the run folder; a relative one counts
        from the root of the repository, other relative paths from the current folder.
    profile : str
        Name for the record.
    book : bool, str or Path
        Whether to make figures for the book and copy the executed notebooks to ``book/notebooks``, or the folder to
        copy them to.

    Returns
    -------
    dict
        The record that ``run.json`` holds.

    Raises
    ------
    NotebookError
        With the failing cell and its error, or saying that the kernel ended.
    LockedError
        If another run is at work in the folder.
    FileError
        If the folder cannot be written.
    """
    parameters = given.absolute(parameters)
    folder = run_folder(ROOT / Path(parameters["run_dir"]).expanduser())
    target = BOOK / "notebooks" if book is True else Path(book) if book else None
    with exclusive(folder / ".lock", f"The run folder {folder}"):
        record = Record(folder, names, parameters, profile)
        for name in names:
            record.begin(name)
            began = time.perf_counter()
            print(f"{name} ...", end=" ", flush=True)
            try:
                usage = _execute(name, parameters, folder, target)
            except BaseException as error:
                print("interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed", flush=True)
                record.fail(name, error)
                raise
            seconds = time.perf_counter() - began
            record.add(name, seconds, _largest_child(), usage)
            print(f"{seconds:.1f} s", flush=True)
        return record.finish()


def _largest_child() -> float:
    """Peak memory of the largest child so far in GiB; the system counts in KiB, on macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**30


def _execute(name: str, parameters: dict[str, Any], folder: Path, book: Path | None) -> kernels.Usage:
    declared = declared_parameters(name)
    values = {key: value for key, value in parameters.items() if key in declared}
    output = folder / "notebooks" / f"{name}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        "IOOD_BOOK": "1" if book else "",
        "PYTHONWARNINGS": "ignore",
        "OMP_WAIT_POLICY": "passive",
    }
    if data := os.environ.get("IOOD_DATA"):
        environment["IOOD_DATA"] = str(Path(data).expanduser().absolute())  # the kernel runs in another folder
    usage = kernels.execute(NOTEBOOKS / f"{name}.ipynb", output, values, cwd=NOTEBOOKS, environment=environment)
    if book:
        write_atomically(book / output.name, lambda path: path.write_text(_for_book(output), encoding="utf-8"))
    return usage


def _for_book(executed: Path) -> str:
    """Executed notebook without papermill's own cell and without progress bars, which are for people who wait."""
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("widgets", None)  # their scripts would be loaded from elsewhere
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = ["remove-cell"]
        if cell.cell_type == "code":
            cell.outputs = [
                out for out in cell.outputs if out.get("name") != "stderr" and WIDGET not in out.get("data", {})
            ]
    return nbformat.writes(notebook)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--profile", default="mini", help="parameter file in notebooks/parameters")
    parser.add_argument("--run-dir", help="run folder instead of the profile's")
    parser.add_argument("--only", help="one notebook, by number or name")
    parser.add_argument("--from", dest="first", help="start at this notebook, by number or name")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a parameter (YAML value)"
    )
    parser.add_argument("--book", action="store_true", help="make figures for the book and copy notebooks there")
    parser.add_argument("--list", action="store_true", help="show notebooks and profiles, run nothing")


def execute(args: argparse.Namespace) -> int:
    """Run what the arguments ask for; returns the exit code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    names = notebook_order()
    if args.list:
        print("notebooks:", *names, "profiles:", *profiles(), sep="\n  ")
        return 0
    changes = given.parse(args.set)
    if args.run_dir:
        changes["run_dir"] = args.run_dir
    given.check(changes, all_declared())
    if "run_dir" in changes:
        changes["run_dir"] = str(Path(changes["run_dir"]).expanduser().absolute())
    parameters = load_profile(args.profile) | changes
    if args.only:
        names = [_find(args.only, names)]
    if args.first:
        names = names[names.index(_find(args.first, names)) :]
    run(names, parameters, profile=args.profile, book=args.book)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, 1 for a failure, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m iood_helpers.run", description=__doc__.split("\n")[0])
    add_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        return execute(args)
    except IoodError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on where it can.", file=sys.stderr)
        return 130


def _terminate(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _find(wanted: str, names: list[str]) -> str:
    for name in names:
        if name.startswith(wanted):
            return name
    raise ParameterError(given.unknown("notebook", wanted, names))


if __name__ == "__main__":
    sys.exit(main())
