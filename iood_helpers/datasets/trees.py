"""Where the files of a split lie, as data; and what of it is there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import DatasetError
from .folders import find_images, read_list
from .samples import Sample

Places = tuple[tuple[str, str], ...]
"""Patterns of a path, each with its encoding or overlay; the first file that exists is taken."""


@dataclass(frozen=True)
class Tree:
    """Where the files of one split lie and how they are called.

    Paths count from the folder of the data set. In them, ``{split}``, ``{name}`` (path of an image below the folder of
    images, without ``ending`` and suffix), ``{root}`` and the named groups of ``names`` are filled in.

    Attributes
    ----------
    folders : tuple of str
        Names that the folder of the data set may have below the root. The root itself is tried last, so that a user may
        name either; not so where ``images`` names no fixed folder.
    images : tuple of str
        Folders of the images; the first that exists is read, with all folders below it.
    ending : str
        What the stems of images end in.
    names : str
        Regular expression that the beginning of a name matches; images with other names belong to other splits.
    labels, masks : tuple of (path, encoding)
        Label maps and masks; encodings as ``Sample`` has them.
    withheld : bool
        Whether all labels may be absent, as where a benchmark keeps them; the same with all masks.
    unless : tuple of str
        Endings of files in the folder of images that are not images.
    listing : str
        A text file of names; where it exists, only these images are taken.
    pictures : tuple of (path, overlay)
        Where the images lie, if those in ``images`` are masks; with the overlay to be added, or "".
    remedy : str
        What to do if a label map or an image is missing.
    """

    folders: tuple[str, ...]
    images: tuple[str, ...]
    ending: str = ""
    names: str = ""
    labels: Places = ()
    masks: Places = ()
    withheld: bool = False
    unless: tuple[str, ...] = ()
    listing: str = ""
    pictures: Places = ()
    remedy: str = "restore it or remove the image"


class Missing(NamedTuple):
    """An image or mask without a file that belongs to it."""

    path: Path
    what: str
    places: list[Path]

    def __str__(self) -> str:
        return f"{self.path} has no {self.what}: {' or '.join(map(str, self.places))} does not exist"


class Found(NamedTuple):
    """Samples that have all their files, and files that are missing."""

    samples: list[Sample]
    missing: list[Missing]


def find(tree: Tree, split: str, root: Path) -> Found:
    """Look for the files of a split.

    Raises
    ------
    DatasetError
        If there is no folder of images, one cannot be read, or a listed image is not there.
    """
    home, folder = _home(tree, split, root)
    images = find_images(folder, tree.ending, tree.unless)
    if tree.listing:
        images = _listed(images, home / tree.listing.format(split=split), folder)
    pattern = re.compile(tree.names, re.DOTALL)
    rows = []
    for name, path in images:
        if match := pattern.match(name):
            words = {"split": split, "name": name, "root": root, **match.groupdict()}
            rows.append((name, path, {kind: _places(places, home, words) for kind, places in _kinds(tree)}))
    asked = {kind for kind, _ in _kinds(tree) if not tree.withheld or any(_first(places[kind]) for *_, places in rows)}
    found = Found([], [])
    for name, path, places in rows:
        gaps = [Missing(path, kind, [p for p, _ in places[kind]]) for kind in asked if not _first(places[kind])]
        label, mask, picture = (_first(places.get(kind, [])) for kind in ("label file", "mask", "image"))
        overlay = home / picture[1].format(name=name) if picture and picture[1] else None
        if overlay and not os.path.isfile(overlay):
            gaps.append(Missing(path, "overlay", [overlay]))
        found.missing.extend(gaps)
        if not gaps:
            found.samples.append(
                Sample(
                    name,
                    split,
                    image_path=picture[0] if picture else path,
                    label_path=label and label[0],
                    invalid_path=mask and mask[0],
                    encoding=label[1] if label else "train-ids",
                    mask_encoding=mask[1] if mask else "nonzero",
                    overlay_path=overlay,
                )
            )
    return found


def complete(found: Found, tree: Tree) -> list[Sample]:
    """The samples, if nothing is missing: an image without its mask would count as if nothing in it were unknown.

    Raises
    ------
    DatasetError
        If a file is missing; the message names the first and counts the others.
    """
    if found.missing:
        others = len(found.missing) - 1
        count = f" (and {others} more {'is' if others == 1 else 'are'} missing)" if others else ""
        what = "mask" if tree.pictures else "image"
        raise DatasetError(f"The {what} {found.missing[0]}{count}; {tree.remedy}.")
    return found.samples


def _kinds(tree: Tree) -> Iterable[tuple[str, Places]]:
    named = (("label file", tree.labels), ("mask", tree.masks), ("image", tree.pictures))
    return [(kind, places) for kind, places in named if places]


def _places(places: Places, home: Path, words: dict) -> list[tuple[Path, str]]:
    return [(home / path.format(**words), word) for path, word in places]


def _first(places: list[tuple[Path, str]]) -> tuple[Path, str] | None:
    return next((place for place in places if os.path.isfile(place[0])), None)


def _home(tree: Tree, split: str, root: Path) -> tuple[Path, Path]:
    """Folder of the data set, and its folder of images."""
    images = [path.format(split=split) for path in tree.images]
    own = any(path.format(split="") for path in tree.images)
    homes = [root / folder for folder in (*tree.folders, *([""] if own else []))]
    for home in homes:
        for path in images:
            if os.path.isdir(home / path):  # unlike Path.is_dir, it never raises
                return home, home / path
    raise DatasetError(
        f"The folder {homes[0] / images[0]} does not exist, or may not be entered; put the data there, or name another "
        "place by root= or the environment variable IOOD_DATA."
    )


def _listed(images: list[tuple[str, Path]], listing: Path, folder: Path) -> list[tuple[str, Path]]:
    if not os.path.lexists(listing):
        return images
    found = dict(images)
    listed = sorted({entry.rsplit("/", 1)[-1] for entry in read_list(listing)})
    absent = [name for name in listed if name not in found]
    if absent:
        raise DatasetError(
            f"The list {listing} names {absent[0]}, which {folder} does not hold; complete the download."
        )
    return [(name, found[name]) for name in listed]
