"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> Path:
    """Let ``write`` fill a temporary file beside ``path`` and rename it when it is complete.

    Parameters
    ----------
    path
        The file to create or replace; its folder is made if missing.
    write
        Called with the temporary path, which has the same suffix as ``path``.

    Returns
    -------
    pathlib.Path
        ``path``. If ``write`` raises, nothing is left behind and an existing file is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_json(path: str | Path, content: Any) -> Path:
    """Write ``content`` as indented JSON with sorted keys, atomically."""
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
