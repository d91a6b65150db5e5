"""Run the notebooks of a profile, in the order of the book: ``python -m iood_helpers.run --profile mini``.

Each notebook gets, through papermill, those parameters of ``notebooks/parameters/<profile>.yml`` that it declares. The
run folder holds the executed copies, the artefacts, the metrics, and ``run.json``: parameters, versions, commit,
device, seconds and memory of each notebook. The first failure ends the run and shows the failing cell.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import yaml

from .errors import IoodError, ParameterError
from .files import write_atomically, write_json
from .notebook import ROOT

NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
WIDGET = "application/vnd.jupyter.widget-view+json"
PACKAGES = ("torch", "onedl-mmsegmentation", "scikit-learn", "umap-learn", "plotly", "zarr", "papermill", "numpy")


def notebook_order() -> list[str]:
    """Names of the notebooks in the order of ``book/_toc.yml``, the only list of them."""
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [Path(file).name for file in chapters if file.startswith("notebooks/")]


def profiles() -> list[str]:
    """Names of the parameter files."""
    return sorted(path.stem for path in (NOTEBOOKS / "parameters").glob("*.yml"))


def declared_parameters(name: str) -> dict[str, Any]:
    """Names and defaults in the ``parameters`` cell of a notebook.

    Raises
    ------
    ParameterError
        If the notebook has no such cell, or it holds anything but assignments of literals.
    """
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"The notebook {name} needs exactly one cell tagged 'parameters'; it has {len(tagged)}.")
    try:
        return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(tagged[0].source).body}
    except (AttributeError, ValueError, SyntaxError) as error:
        raise ParameterError(f"The parameters cell of {name} must hold literals only ({error}).") from error


def load_profile(profile: str) -> dict[str, Any]:
    """Parameters of a profile; every name must be declared by some notebook.

    Raises
    ------
    ParameterError
        If the profile, or a parameter in it, is unknown.
    """
    if profile not in profiles():
        raise ParameterError(_unknown("profile", profile, profiles()))
    parameters = yaml.safe_load((NOTEBOOKS / "parameters" / f"{profile}.yml").read_text())
    check_names(parameters)
    return parameters


def check_names(parameters: dict[str, Any]) -> None:
    """Raise ``ParameterError`` for a name that no notebook declares."""
    known = {name for notebook in notebook_order() for name in declared_parameters(notebook)}
    for name in parameters:
        if name not in known:
            raise ParameterError(_unknown("parameter", name, sorted(known)))


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {what} {name!r}; known are {', '.join(known)}.{hint}"


def run(names: list[str], parameters: dict[str, Any], *, profile: str, book: bool = False) -> dict[str, Any]:
    """Execute notebooks one after another.

    Parameters
    ----------
    names
        Notebooks, in order.
    parameters
        Values; each notebook gets the ones that it declares. ``run_dir`` names the run folder.
    profile
        Name for the record.
    book
        Whether to make figures for the book and copy the executed notebooks there.

    Returns
    -------
    dict
        The record that ``run.json`` holds.

    Raises
    ------
    NotebookFailed
        With the failing cell and its error.
    """
    folder = ROOT / parameters["run_dir"]
    record: dict[str, Any] = {
        "profile": profile,
        "parameters": parameters,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "commit": git_commit(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "device": _device(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "running",
        "notebooks": _earlier_notebooks(folder, names, parameters),
    }
    for name in names:
        began = time.perf_counter()
        print(f"{name} ...", end=" ", flush=True)
        try:
            _execute(name, parameters, folder, book)
        except NotebookFailed:
            record["status"] = f"failed in {name}"
            write_json(folder / "run.json", record)
            print("failed")
            raise
        seconds = time.perf_counter() - began
        # The largest child so far: exact for the largest notebook, an upper bound for the ones after it.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        record["notebooks"][name] = {"seconds": round(seconds, 1), "peak_gib_so_far": round(peak, 2)}
        record["notebooks"] = dict(sorted(record["notebooks"].items()))
        write_json(folder / "run.json", record)
        print(f"{seconds:.1f} s", flush=True)
    record["status"] = "complete"
    record["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / "run.json", record)
    return record


def _earlier_notebooks(folder: Path, names: list[str], parameters: dict[str, Any]) -> dict[str, Any]:
    """What the record says of notebooks that stay as an earlier run of the same parameters left them."""
    if not (folder / "run.json").is_file():
        return {}
    record = json.loads((folder / "run.json").read_text())
    if record["parameters"] != parameters:
        return {}
    return {name: entry for name, entry in record["notebooks"].items() if name not in names}


class NotebookFailed(IoodError):
    """A cell of a notebook raised an error."""


def _execute(name: str, parameters: dict[str, Any], folder: Path, book: bool) -> None:
    # Imported here: papermill takes a second, and --list or a wrong profile should answer at once.
    import papermill

    declared = declared_parameters(name)
    given = {key: value for key, value in parameters.items() if key in declared}
    output = folder / "notebooks" / f"{name}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        "IOOD_BOOK": "1" if book else "",
        "PYTHONWARNINGS": "ignore",
        "OMP_WAIT_POLICY": "passive",
        # The kernel of this interpreter's own environment, whatever kernels the user has registered:
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            papermill.execute_notebook(
                str(NOTEBOOKS / f"{name}.ipynb"),
                str(output),
                parameters=given,
                kernel_name="python3",
                cwd=str(NOTEBOOKS),
                progress_bar=sys.stderr.isatty(),
                log_output=False,
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # no notices of the kernel between the names
            )
    except papermill.PapermillExecutionError as error:
        raise NotebookFailed(
            f"{name}, cell {error.exec_count}:\n\n{error.source}\n\n{error.ename}: {error.evalue}\n\n"
            f"The executed copy is {output}."
        ) from error
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
    if book:
        write_atomically(BOOK / "notebooks" / output.name, lambda path: path.write_text(_for_book(output)))


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


def git_commit() -> str | None:
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        state = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + (" with changes" if state.stdout.strip() else "")


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m iood_helpers.run", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="mini", help="parameter file in notebooks/parameters")
    parser.add_argument("--run-dir", help="run folder instead of the profile's")
    parser.add_argument("--only", help="one notebook, by number or name")
    parser.add_argument("--from", dest="first", help="start at this notebook, by number or name")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a parameter (YAML value)"
    )
    parser.add_argument("--book", action="store_true", help="make figures for the book and copy notebooks there")
    parser.add_argument("--list", action="store_true", help="show notebooks and profiles, run nothing")
    args = parser.parse_args(arguments)
    try:
        names = notebook_order()
        if args.list:
            print("notebooks:", *names, "profiles:", *profiles(), sep="\n  ")
            return 0
        parameters = load_profile(args.profile)
        changes = dict(item.split("=", 1) for item in args.set if "=" in item)
        if len(changes) < len(args.set):
            raise ParameterError("--set needs NAME=VALUE.")
        parameters |= {name: yaml.safe_load(value) for name, value in changes.items()}
        if args.run_dir:
            parameters["run_dir"] = args.run_dir
        check_names(parameters)
        if args.only:
            names = [_find(args.only, names)]
        if args.first:
            names = names[names.index(_find(args.first, names)) :]
        run(names, parameters, profile=args.profile, book=args.book)
    except IoodError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _find(wanted: str, names: list[str]) -> str:
    for name in names:
        if name.startswith(wanted):
            return name
    raise ParameterError(_unknown("notebook", wanted, names))


if __name__ == "__main__":
    sys.exit(main())
