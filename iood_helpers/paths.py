"""Where the files that ship with the project are.

This is the only module that knows the place of ``data/``; everything else asks here.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import DatasetError, FileError


def data_dir() -> Path:
    """Folder ``data/`` of the project.

    Returns
    -------
    pathlib.Path
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


def mini_dir() -> Path:
    """Folder of the shipped mini street scenes."""
    return data_dir() / "mini"


def checkpoints_dir() -> Path:
    """Folder of the shipped checkpoints."""
    return data_dir() / "checkpoints"


def cache_dir() -> Path:
    """Folder for downloads, made on first use (``IOOD_CACHE_DIR``, else the user's cache folder).

    Raises
    ------
    FileError
        If it cannot be made.
    """
    named = os.environ.get("IOOD_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "iood")
    try:
        folder = Path(named).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows where "~" is
        raise FileError(f"The folder for downloads {named} cannot be made ({error}); set IOOD_CACHE_DIR.") from error
    return folder
