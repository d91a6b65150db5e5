"""Folders of other people: which files in them are images, and which names a list holds."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from pathlib import Path

from .errors import DatasetError
from .images import FORMATS

PICTURES = (".avif", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm", ".dng", ".cr2", ".nef", ".arw", ".exr")
"""Endings of pictures that are not read; if there are any, that is told."""

DERIVED = (
    *("_color", "_colour", "_mask", "_gt", "_pred", "_conf", "_depth", "_overlay", "_invIds", "_gt_invIds"),
    *("_labelIds", "_labelTrainIds", "_instanceIds", "_gt_labelIds", "_gt_labelTrainIds", "_gt_labelColor"),
    *("_labels", "_labels_semantic", "_labels_semantic_color", "_labels_semantic_fake"),
)
"""Endings of pictures that were made from an image beside them."""

LISTED = re.compile(rf"^(.*?(?:{'|'.join(map(re.escape, FORMATS))}))(?:\s|$)", re.IGNORECASE)


def find_images(folder: Path, ending: str = "", unless: tuple[str, ...] = ()) -> list[tuple[str, Path]]:
    """Sorted (name, path) of the images below a folder.

    Links to folders are followed (each folder once); hidden files and folders and pictures derived from an image beside
    them are left out. Pictures in formats that are not read are left out, too, and a warning counts them.

    Parameters
    ----------
    folder
        Where to look.
    ending
        What the stem of a name must end in; it is no part of the name that is returned.
    unless
        Endings of file names that are no images.

    Raises
    ------
    DatasetError
        If a folder cannot be read.
    """
    found, unread = [], Counter()
    for path in _files(folder):
        stem, suffix = path.stem, path.suffix.lower()
        unread[suffix] += suffix in PICTURES
        if suffix in FORMATS and stem.endswith(ending) and not path.name.endswith(unless):
            base = path.with_name(stem.removesuffix(ending))
            found.append((base.relative_to(folder).as_posix(), path))
    skipped = {suffix: count for suffix, count in unread.items() if count}
    if skipped:
        shown = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        warnings.warn(f"Pictures below {folder} that are not read: {shown}; convert them to PNG or JPEG.", stacklevel=3)
    names = {name for name, _ in found}
    return sorted(item for item in found if not _is_derived(item[0], names))


def _is_derived(name: str, names: set[str]) -> bool:
    return any(name.endswith(ending) and name.removesuffix(ending) in names for ending in DERIVED)


def _files(folder: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise DatasetError(
            f"The folder {error.filename} cannot be read ({error.strerror}); mend its permissions or leave it out."
        ) from error

    seen, files = set(), []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=stop):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back, or a second way to the same folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return files


def read_list(path: Path) -> list[str]:
    """First path or name of each line of a text file, with forward slashes.

    UTF-8 (with or without byte order mark) and UTF-16 with byte order mark are read; a line may hold a name, or the
    paths of an image and its label, as in the lists of SegNet's CamVid.

    Raises
    ------
    DatasetError
        If the file is of another encoding.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"The list {path} is no text in UTF-8 or UTF-16; save it in UTF-8 encoding.") from error
    entries = (line.strip().replace("\\", "/") for line in lines)
    return [match[1] if (match := LISTED.match(line)) else line.split()[0] for line in entries if line]
