"""Files and places: where what ships is, writing so that a reader never sees half of a file, one writer at a time."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors import SafetensorError

from .errors import DatasetError, FileError, LockedError


def data_dir() -> Path:
    """Folder ``data/`` of the project, with the shipped scenes (``mini/``) and checkpoints (``checkpoints/``).

    Returns
    -------
    Path
        The folder named by the environment variable ``IOOD_DATA_DIR`` if set, else ``data/`` beside the package.

    Raises
    ------
    DatasetError
        If the folder does not exist (for example when the package was installed without its checkout).
    """
    named = os.environ.get("IOOD_DATA_DIR")
    folder = Path(named).expanduser() if named else Path(__file__).resolve().parent.parent / "data"
    if not folder.is_dir():
        raise DatasetError(
            f"The data folder {folder} does not exist; clone the repository, "
            "or point IOOD_DATA_DIR to its data/ folder."
        )
    return folder


def cache_dir() -> Path:
    """Folder for downloads, made on first use (``IOOD_CACHE_DIR``, else the user's cache folder).

    Returns
    -------
    Path

    Raises
    ------
    FileError
        If it cannot be made.
    """
    import pooch

    named = os.environ.get("IOOD_CACHE_DIR") or pooch.os_cache("iood")
    try:
        folder = Path(named).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder for "~"
        raise FileError(f"The folder for downloads {named} cannot be made ({error}); set IOOD_CACHE_DIR.") from error
    return folder


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path`` and rename it when it is complete and on the disk.

    Parameters
    ----------
    path : str or Path
        The file to create or replace; its folder is made if missing.
    write : callable
        Called with the temporary path, which has the same suffix as ``path``.

    Returns
    -------
    Path
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
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        reason = _reason(error, (temporary, path, *path.parents))
        if reason is None:
            raise
        raise FileError(
            f"The file {path} cannot be written ({reason}); free space, fix the permissions or choose another place."
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
    raise TypeError(f"{type(value).__name__} is not a plain value")


def _reason(error: OSError | SafetensorError, places: tuple[Path, ...]) -> str | None:
    """Why a file cannot be written; None for errors of another kind, as of a file that ``write`` reads."""
    if isinstance(error, SafetensorError):
        return str(error) if "I/O error" in str(error) else None
    named = error.filename is not None and Path(os.fsdecode(error.filename)) not in places
    return None if error.errno is None or named else error.strerror


def _sweep(path: Path) -> None:
    """Remove temporary files of ``path`` whose processes are gone."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.(\d{{1,9}})\.tmp{re.escape(path.suffix)}")
    for found in path.parent.iterdir():
        match = pattern.fullmatch(found.name)
        if match and not psutil.pid_exists(int(match[1])):
            found.unlink(missing_ok=True)


@contextmanager
def exclusive(path: str | Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    Parameters
    ----------
    path : str or Path
        The lock file; it is made if missing and stays behind, empty, since removing it would let two holders in.
    what : str
        What is locked, as the beginning of a sentence: ``"The store runs/mini/embeddings.zarr"``.

    Raises
    ------
    LockedError
        If another process (or another block of this one) holds it; the message names the process, machine and time.
    FileError
        If the file cannot be made.
    """
    path = Path(path)
    try:
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise FileError(f"{what} cannot be locked: {path} cannot be written ({error.strerror}).") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"{what} is in use by {_holder(path)}; wait for it, or end it.") from error
        stream.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        stream.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now}))
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
