"""``run.json``: what a run folder holds, and how it was made; never more than is true at the moment.

Before a notebook starts, its entry goes and the status says "running"; entries of notebooks after it are marked stale,
since they read what it is about to write. So a run that is killed leaves a record that claims nothing of what changed.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..io import plain, write_json
from .artifacts import ROOT
from .kernels import Usage

PACKAGES = ("torch", "onedl-mmsegmentation", "scikit-learn", "umap-learn", "plotly", "zarr", "papermill", "numpy")


class Record:
    """The record of one run in progress; every change is on the disk when the method returns.

    Parameters
    ----------
    folder : Path
        Run folder.
    names : list of str
        Notebooks that will run, in order.
    parameters : dict
        Their parameters.
    profile : str
        Name of the profile.
    """

    def __init__(self, folder: Path, names: list[str], parameters: dict[str, Any], profile: str) -> None:
        self.path = folder / "run.json"
        self._content: dict[str, Any] = {
            "profile": profile,
            "parameters": plain(parameters),
            "python": platform.python_version(),
            "versions": {package: version(package) for package in PACKAGES},
            "commit": git_commit(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
            "started": _now(),
            "status": "running",
            "notebooks": self._earlier(names, plain(parameters)),
        }
        self._write()
        self._content["device"] = _device()  # takes some seconds: the record is there before

    def begin(self, name: str) -> None:
        """A notebook starts."""
        entries = self._content["notebooks"]
        entries.pop(name, None)
        for other, entry in entries.items():
            if other > name:
                entry["stale"] = True
        self._write()

    def add(self, name: str, seconds: float, largest_child: float, usage: Usage | None) -> None:
        """A notebook has ended well; memory in GiB."""
        # The largest child so far: exact for the largest notebook, an upper bound for the ones after it.
        entry = {"seconds": round(seconds, 1), "peak_gib_so_far": round(largest_child, 2)}
        if isinstance(usage, Usage):
            entry |= {"peak_gib": round(usage.peak_bytes / 2**30, 2), "passes": usage.passes}
        self._content["notebooks"][name] = entry
        self._content["notebooks"] = dict(sorted(self._content["notebooks"].items()))
        self._write()

    def fail(self, name: str, error: BaseException) -> None:
        """A notebook has failed, or the run was interrupted."""
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        self._content["status"] = f"{'interrupted' if interrupted else 'failed'} in {name}"
        if not interrupted:
            self._content["error"] = str(error)
        self._write()

    def finish(self) -> dict[str, Any]:
        """All notebooks of the run have ended well; returns what the file holds."""
        self._content |= {"status": "complete", "ended": _now()}
        self._write()
        return self._content

    def _earlier(self, names: list[str], parameters: dict[str, Any]) -> dict[str, Any]:
        """What the record says of notebooks that stay as an earlier run of the same parameters left them."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            if record["parameters"] != parameters:
                return {}
            return {name: dict(entry) for name, entry in record["notebooks"].items() if name not in names}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}  # none, or a damaged one, which this run replaces

    def _write(self) -> None:
        write_json(self.path, self._content)


def git_commit() -> str | None:
    """Commit of the repository, with a note if files are changed; None outside of one."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        state = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + (" with changes" if state.stdout.strip() else "")


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
