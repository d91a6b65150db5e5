"""Folders as users have them: which files in them are images, and which names a list holds."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from pathlib import Path

from ..errors import DatasetError
from .images import FORMATS

UNREAD_FORMATS = (
    ".avif",
    ".gif",
    ".heic",
    ".heif",
    ".jp2",
    ".jxl",
    ".ppm",
    ".pgm",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
    ".exr",
)
"""Endings of image files that are not read; a warning counts them."""

DERIVED = re.compile(
    r"_(color|colour|mask|gt|pred|conf|depth|overlay|(gt(Fine|Coarse)?_)?"
    r"(color|labelColor|labelIds|labelTrainIds|instanceIds|invIds|polygons)|labels(_semantic(_color|_fake)?)?)$"
)
"""Endings of files that were made from an image beside them."""

SYSTEM = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
"""Folders of archives, disks and network drives, with thumbnails and the like."""

LISTED = re.compile(rf"^(.*?)(?:{'|'.join(map(re.escape, FORMATS))})(?:\s|$)", re.IGNORECASE)


def find_images(folder: Path, ending: str = "", unless: tuple[str, ...] = ()) -> list[tuple[str, Path]]:
    """Sorted (name, path) of the images below a folder.

    Links to folders are followed, each folder once. Hidden files, hidden folders and those of the system are left out.
    A warning counts files that are left out for other reasons: a format that is not read, a name that does not end as
    it should, made from an image beside them, or reached a second time.

    Parameters
    ----------
    folder : Path
        Where to look.
    ending : str
        What the stem of a file name must end in; it is left out of the name that is returned.
    unless : tuple of str
        Endings of file names that are not images.

    Returns
    -------
    list of (str, Path)

    Raises
    ------
    DatasetError
        If a folder cannot be read, or the target of a link does not exist.
    """
    files, again = _files(folder)
    found: dict[str, list[Path]] = {}
    left = [("folders reached a second time", path) for path in again]
    for path in files:
        stem, suffix = path.stem, path.suffix.lower()
        if suffix in UNREAD_FORMATS:
            left.append((f"{suffix} files in need of conversion to PNG or JPEG", path))
        if suffix not in FORMATS or path.name.endswith(unless):
            continue
        if stem.endswith(ending):
            base = path.with_name(stem.removesuffix(ending))
            found.setdefault(base.relative_to(folder).as_posix(), []).append(path)
        elif not DERIVED.search(stem):
            left.append((f"files whose names do not end in {ending}", path))
    for name in [name for name in found if DERIVED.search(name) and DERIVED.sub("", name) in found]:
        left += [("files made from an image beside them", path) for path in found.pop(name)]
    _warn(folder, left)
    return sorted((name, path) for name, paths in found.items() for path in paths)


def _warn(folder: Path, left: list[tuple[str, Path]]) -> None:
    """One warning for a folder, with counts and an example for each reason."""
    if not left:
        return
    counts, examples = Counter(reason for reason, _ in left), dict(sorted(left, reverse=True))
    shown = ", ".join(f"{n} {reason} (such as {examples[reason].name})" for reason, n in sorted(counts.items()))
    warnings.warn(f"Left out below {folder}: {shown}.", stacklevel=4)


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files below a folder, and folders that are reached a second time."""

    def stop(error: OSError) -> None:
        raise DatasetError(
            f"The folder {error.filename} cannot be read ({error.strerror}); fix its permissions or leave it out."
        ) from error

    seen, files, again = set(), [], []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=stop):
        real = os.path.realpath(place)
        if real in seen:  # a link back to a parent, or to a folder that was read already
            folders.clear()
            again.append(Path(place))
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SYSTEM)
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if not os.path.exists(path):  # it may point to a folder full of images, on a disk that is not there
                raise DatasetError(f"The target of the link {path} does not exist; fix or remove the link.")
            files.append(path)
    return files, again


def read_list(path: Path) -> list[str]:
    """First path or name of each line of a text file, with forward slashes and without the ending of an image.

    UTF-8 (with or without byte order mark) and UTF-16 with byte order mark are read; a line may hold a name, or the
    paths of an image and its label, as in the lists of SegNet's CamVid.

    Raises
    ------
    DatasetError
        If the file cannot be read or is of another encoding.
    """
    if not path.is_file():  # a pipe would never end
        raise DatasetError(f"The list {path} cannot be read (it is not a file); replace or remove it.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"The list {path} cannot be read ({error.strerror}); fix its permissions.") from error
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(_other_encoding(path)) from error
    if "\0" in text:  # UTF-16 without its mark, or UTF-32
        raise DatasetError(_other_encoding(path))
    entries = (line.strip().replace("\\", "/") for line in text.splitlines())
    return [match[1] if (match := LISTED.match(line)) else line.split()[0] for line in entries if line]


def _other_encoding(path: Path) -> str:
    return f"The list {path} is not text in UTF-8 or UTF-16; save it in UTF-8 encoding."
