"""One writer at a time: a lock on a file that names its holder and is freed by the system when the holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .errors import FileError, LockedError


@contextmanager
def exclusive(path: str | Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    Parameters
    ----------
    path
        The lock file; it is made if missing and stays behind, empty, since removing it would let two holders in.
    what
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
