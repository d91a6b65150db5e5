"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


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


def plain(content: Any) -> Any:
    """``content`` as JSON gives it back: lists for tuples, Python's numbers for NumPy's, strings for keys."""
    return json.loads(json.dumps(content, default=_python_value))


def _python_value(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no plain value")


def write_json(path: str | Path, content: Any) -> Path:
    """Write ``content`` as indented JSON with sorted keys, atomically."""
    text = json.dumps(content, indent=2, sort_keys=True, default=_python_value) + "\n"
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
