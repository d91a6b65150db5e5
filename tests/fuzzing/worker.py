"""Runs the cases of one loader, one after another: ``worker LOADER SEED FIRST STOP SECONDS FOLDER``.

A line of JSON for each case goes to the standard output as it was at the start; what libraries print is thrown away.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import TextIO

from .cases import Case, Implausible
from .guard import GIBIBYTE, Forbidden, Guard, limited_memory, measured, peak_memory


def main(loader: str, seed: str, first: str, stop: str, seconds: str, folder: str) -> None:
    report = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    warnings.simplefilter("ignore")
    place = Path(folder)
    originals, scratch, secret, temporary = (place / name for name in ("originals", "case", "secret", "temporary"))
    for folder_ in (originals, temporary):
        folder_.mkdir(exist_ok=True)
    secret.write_text("not for anybody")
    module = importlib.import_module(f".loaders.{loader}", __package__)
    material = module.prepare(originals)
    guard = Guard((scratch, temporary), secret)
    gc.collect()
    gc.freeze()  # what is loaded by now is not looked at again
    for index in range(int(first), int(stop)):
        if scratch.is_symlink() or scratch.exists():
            _remove(scratch)
        scratch.mkdir()
        os.chdir(scratch)
        rng = Random(f"{seed}/{loader}/{index}")
        _say(report, index=index, begins="to be made")
        case = module.make(material, rng, scratch)
        _say(report, index=index, begins=case.what)
        verdict = judge(case, guard, scratch, float(seconds))
        left = os.listdir(temporary)
        if left and verdict["outcome"] != "fault":
            verdict |= {"outcome": "fault", "kind": "temporary files are left", "where": str(left[:5])}
        for name in left:
            shutil.rmtree(temporary / name, ignore_errors=True)
            (temporary / name).unlink(missing_ok=True)
        if verdict["outcome"] == "fault":  # before it is told: the next case would take its place
            scratch.rename(place / f"failed-{index}")
        _say(report, index=index, what=case.what, **verdict)


def _say(report: TextIO, **content: object) -> None:
    report.write(json.dumps(content) + "\n")
    report.flush()


def _remove(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


def judge(case: Case, guard: Guard, scratch: Path, seconds: float) -> dict:
    """What became of a case: ``outcome`` is "loaded", "refused" or "fault", with its ``kind`` and ``where``."""
    from iood_helpers.errors import IoodError

    before, peak = _inventory(scratch), peak_memory()
    with guard.armed(), limited_memory(GIBIBYTE):
        value, error, took = measured(case.load)
        if error is None:
            _, error, more = measured(lambda: case.check(value))
            took += more
            used = True
        else:
            used = False
    grown = peak_memory() - peak
    verdict = {"seconds": round(took, 3), "grown": grown}
    if guard.seen or isinstance(error, Forbidden):
        return {**verdict, "outcome": "fault", "kind": "did what no file may make it do", "where": str(guard.seen)}
    if (scratch / "CANARY").exists() or (scratch.parent / "CANARY").exists():
        return {**verdict, "outcome": "fault", "kind": "executed", "where": case.what}
    if isinstance(error, Implausible):
        return {**verdict, "outcome": "fault", "kind": "accepted", "where": str(error)}
    if error is not None and not isinstance(error, IoodError):
        return {
            **verdict,
            "outcome": "fault",
            "kind": f"{type(error).__name__}: {str(error)[:200]}",
            "where": _where(error),
            "trace": "".join(traceback.format_exception(error))[-6000:],
        }
    if _ran_out(error):
        return {**verdict, "outcome": "fault", "kind": "took more than 1 GiB before it refused", "where": _where(error)}
    if took > seconds:
        return {**verdict, "outcome": "fault", "kind": f"took more than {seconds} s", "where": case.what}
    if grown > GIBIBYTE:
        return {**verdict, "outcome": "fault", "kind": "took more than 1 GiB", "where": case.what}
    if not case.writes and _inventory(scratch) != before:
        return {**verdict, "outcome": "fault", "kind": "a reader changed files", "where": case.what}
    if error is not None and not used and not any(name in str(error) for name in case.names):
        return {
            **verdict,
            "outcome": "fault",
            "kind": f"the error does not name the file: {error!s:.200}",
            "where": _where(error),
        }
    return {**verdict, "outcome": "loaded" if error is None else "refused", "error": str(error or "")[:300]}


def _ran_out(error: BaseException | None) -> bool:
    """Whether an error comes from memory that was asked for and not given: too late for a limit."""
    while error is not None:
        if isinstance(error, MemoryError) or "alloc" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _where(error: BaseException) -> str:
    """The last line of the package that the exception passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "iood_helpers" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def _inventory(folder: Path) -> list:
    """Files below a folder with size and time; folders with their mode."""
    found = []
    for here, folders, files in os.walk(folder):
        for name in folders:
            found.append((here, name, os.lstat(os.path.join(here, name)).st_mode))
        for name in files:
            status = os.lstat(os.path.join(here, name))
            found.append((here, name, status.st_size, status.st_mtime_ns))
    return sorted(found, key=repr)


if __name__ == "__main__":
    main(*sys.argv[1:])
