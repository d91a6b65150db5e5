"""Where the files of each data set lie and how they are called: from a folder to a list of samples.

Which encodings occur where:

| Data set | Label map | Mask |
|---|---|---|
| Cityscapes | train ids or label ids (0..33, 255 void), image by image | none |
| CamVid | CamVid ids, 11 or 255 for void | none |
| BRAVO, mini | train ids, 255 for void | not zero: invalid |
| masks | none | 0 in-distribution, 255 void, anything else an anomaly |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError
from .folders import find_images, read_list
from .samples import Sample


@dataclass(frozen=True)
class BravoLayout:
    """Where the files of one BRAVO subset are and how their names end.

    Attributes
    ----------
    folder : str
        Folder below ``bravo/``.
    part : str or None
        A folder that must occur in the path (the weather of the ACDC subsets).
    image : str
        What stands between the base of the name and the image's file suffix (also before ``_pred.png``).
    label, mask : str
        Endings of the label map and of the mask of invalid pixels.
    """

    folder: str
    part: str | None
    image: str
    label: str
    mask: str


_GT = ("_gt_labelTrainIds.png", "_gt_invIds.png")
BRAVO_LAYOUT: dict[str, BravoLayout] = {
    "ACDCfog": BravoLayout("bravo_ACDC", "fog", "_rgb_anon", *_GT),
    "ACDCrain": BravoLayout("bravo_ACDC", "rain", "_rgb_anon", *_GT),
    "ACDCnight": BravoLayout("bravo_ACDC", "night", "_rgb_anon", *_GT),
    "ACDCsnow": BravoLayout("bravo_ACDC", "snow", "_rgb_anon", *_GT),
    "SMIYC": BravoLayout("bravo_SMIYC", None, "", "_labels_semantic_fake.png", "_labels_semantic.png"),
    "outofcontext": BravoLayout("bravo_outofcontext", None, "_leftImg8bit", *_GT),
    "synflare": BravoLayout("bravo_synflare", None, "_leftImg8bit", *_GT),
    "synobjs": BravoLayout("bravo_synobjs", None, "", "_gt.png", "_mask.png"),
    "synrain": BravoLayout("bravo_synrain", None, "_leftImg8bit", *_GT),
}
"""The nine subsets of the BRAVO benchmark: folders and file names as its organisers publish them."""

OWN_SUBSETS = ("devobjs", "newobjs")
"""Subsets of the mini scenes only: objects to develop on, and kinds of objects that no development has seen.

They are measured like synobjs, but enter no aggregate.
"""

MINI_LAYOUT = BRAVO_LAYOUT | {
    name: BravoLayout(f"bravo_{name}", None, "", "_gt.png", "_mask.png") for name in OWN_SUBSETS
}
"""Subsets of the mini scenes."""


def cityscapes(split: str, root: Path) -> list[Sample]:
    """``cityscapes/leftImg8bit/<split>/...`` and ``cityscapes/gtFine/<split>/...``; labels of test may be withheld."""
    images = find_images(_folder(root / "cityscapes" / "leftImg8bit" / split), "_leftImg8bit")
    truth = root / "cityscapes" / "gtFine" / split
    # the official download holds label ids only; train ids are made from them by a tool of its own
    endings = {"train-ids": "_gtFine_labelTrainIds.png", "label-ids": "_gtFine_labelIds.png"}
    labels = _companions(
        images, lambda name: [truth / f"{name}{e}" for e in endings.values()], "label file", optional=split == "test"
    )
    return [
        Sample(name, split, path, label, encoding=_encoding(label, endings))
        for (name, path), label in zip(images, labels, strict=True)
    ]


def _encoding(label: Path | None, endings: dict[str, str]) -> str:
    return next((e for e, ending in endings.items() if label and label.name.endswith(ending)), "train-ids")


def bravo(split: str, root: Path) -> list[Sample]:
    """A subset of BRAVO or of the mini scenes; label maps and masks where they are."""
    layout = MINI_LAYOUT[split]
    folder = _folder(root / "bravo" / layout.folder)
    images = find_images(folder, layout.image, unless=(layout.label, layout.mask))
    if layout.part:
        images = [image for image in images if layout.part in Path(image[0]).parts[:-1]]
    labels = _companions(images, lambda name: [folder / f"{name}{layout.label}"], "label file", optional=True)
    masks = _companions(images, lambda name: [folder / f"{name}{layout.mask}"], "mask of invalid pixels", optional=True)
    return [
        Sample(name, split, path, label, mask) for (name, path), label, mask in zip(images, labels, masks, strict=True)
    ]


def camvid(split: str, root: Path) -> list[Sample]:
    """``camvid/<split>/`` and ``camvid/<split>annot/``; a list ``camvid/<split>.txt`` chooses the images."""
    folder, truth = _folder(root / "camvid" / split), root / "camvid" / f"{split}annot"
    images, listing = find_images(folder), root / "camvid" / f"{split}.txt"
    if os.path.lexists(listing):
        found = dict(images)
        listed = sorted({entry.rsplit("/", 1)[-1] for entry in read_list(listing)})
        missing = [name for name in listed if name not in found]
        if missing:
            raise DatasetError(
                f"The list {listing} names {missing[0]}, which {folder} does not hold; complete the download."
            )
        images = [(name, found[name]) for name in listed]
    labels = _companions(images, lambda name: [truth / f"{name}.png"], "label file")
    return [
        Sample(name, split, path, label, encoding="camvid") for (name, path), label in zip(images, labels, strict=True)
    ]


def masks(split: str, root: Path) -> list[Sample]:
    """A folder of photographs ``X.jpg`` with masks ``X_mask.png``."""
    folder = _folder(root / split)
    images = find_images(folder, unless=("_mask.png",))
    found = _companions(images, lambda name: [folder / f"{name}_mask.png"], "anomaly mask")
    return [
        Sample(name, split, path, None, mask, mask_encoding="anomaly")
        for (name, path), mask in zip(images, found, strict=True)
    ]


def _folder(path: Path) -> Path:
    if not os.path.isdir(path):  # unlike Path.is_dir, it never raises
        raise DatasetError(
            f"The folder {path} does not exist, or may not be entered; put the data there, or name another place by "
            "root= or the environment variable IOOD_DATA."
        )
    return path


def _companions(
    images: list[tuple[str, Path]], places: Callable[[str], Sequence[Path]], what: str, optional: bool = False
) -> list[Path | None]:
    """The file that belongs to each image: the first of its places that exists.

    Where it is optional, all images may be without; if only some are, that is an error: an image without its mask would
    count as if nothing in it were unknown.
    """
    found = [next(filter(os.path.isfile, places(name)), None) for name, _ in images]
    if optional and not any(found):
        return found
    if None in found:
        name, path = images[found.index(None)]
        wanted = " or ".join(map(str, places(name)))
        raise DatasetError(f"The image {path} has no {what}: {wanted} does not exist; restore it or remove the image.")
    return found
