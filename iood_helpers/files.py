"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from .errors import FileError


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> Path:
    """Let ``write`` fill a temporary file beside ``path`` and rename it when it is complete and on the disk.

    Parameters
    ----------
    path
        The file to create or replace; its folder is made if missing.
    write
        Called with the temporary path, which has the same suffix as ``path``.

    Returns
    -------
    pathlib.Path
        ``path``. If ``write`` raises, nothing is left behind and an existing file is kept. What a process that was
        killed left of the same file is removed.

    Raises
    ------
    FileError
        If the disk is full, a folder may not be written, or something else is in the file's place.
    """
    path = Path(path).expanduser()
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = _reason(error, (temporary, path, *path.parents))
        if reason is None:
            raise
        raise FileError(
            f"The file {path} cannot be written ({reason}); free space, mend the permissions or choose another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def plain(content: Any) -> Any:
    """``content`` as JSON gives it back: lists for tuples, Python's numbers for NumPy's, strings for keys."""
    return json.loads(json.dumps(content, default=_python_value))


def write_json(path: str | Path, content: Any) -> Path:
    """Write ``content`` as indented JSON with sorted keys, atomically; raises as :func:`write_atomically` does."""
    text = json.dumps(content, indent=2, sort_keys=True, default=_python_value) + "\n"
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _python_value(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no plain value")


def _reason(error: OSError | SafetensorError, places: tuple[Path, ...]) -> str | None:
    """Why a file cannot be written; None for errors of another kind, as of a file that ``write`` reads."""
    if isinstance(error, SafetensorError):
        return str(error) if "I/O error" in str(error) else None
    named = error.filename is not None and Path(os.fsdecode(error.filename)) not in places
    return None if error.errno is None or named else error.strerror


def _sweep(path: Path) -> None:
    """Remove temporary files of ``path`` whose processes are gone."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.(\d{{1,9}})\.tmp{re.escape(path.suffix)}")
    for name in os.listdir(path.parent):
        match = pattern.fullmatch(name)
        if match and not _is_alive(int(match[1])):
            path.with_name(name).unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
