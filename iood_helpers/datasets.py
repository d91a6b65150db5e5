"""The door for images: mini scenes, Cityscapes, CamVid, BRAVO and folders with masks, all as ``Sample``.

Mini scenes are stored in the layouts of Cityscapes and BRAVO: one code path reads shipped and real data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import DatasetError
from .images import image_size, read_ids, read_image, read_mask
from .label_maps import (
    CAMVID_NAMES,
    CAMVID_TO_CITYSCAPES,
    CAMVID_VOID,
    CITYSCAPES_TO_CAMVID,
    camvid_classes,
    to_train_ids,
)
from .paths import mini_dir

__all__ = [
    "BRAVO_LAYOUT",
    "CAMVID_NAMES",
    "CAMVID_TO_CITYSCAPES",
    "CAMVID_VOID",
    "CITYSCAPES_TO_CAMVID",
    "DATASETS",
    "Dataset",
    "Sample",
    "camvid_classes",
    "load_dataset",
    "read_image",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
CALIBRATION_EVERY = 5
"""Every fifth training image in sorted order belongs to ``train-calibration``, the rest to ``train-fit``."""


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
"""Subsets that BRAVO has not: objects to develop on, and kinds of objects that no development has seen.

They are measured like synobjs, but enter no aggregate.
"""

MINI_LAYOUT = BRAVO_LAYOUT | {
    name: BravoLayout(f"bravo_{name}", None, "", "_gt.png", "_mask.png") for name in OWN_SUBSETS
}
"""Subsets of the mini scenes."""

_VIRTUAL = ("train-fit", "train-calibration")
DATASETS: dict[str, tuple[str, ...]] = {
    "mini": ("train", "val", *_VIRTUAL, *MINI_LAYOUT),
    "cityscapes": ("train", "val", "test", *_VIRTUAL),
    "camvid": ("train", "val", "test", *_VIRTUAL),
    "bravo": tuple(BRAVO_LAYOUT),
    "masks": (),
}
"""Splits of each dataset; those of ``masks`` are folders that the user names."""


@dataclass(frozen=True)
class Sample:
    """One image with what is known about its pixels; files are read when a method is called.

    Attributes
    ----------
    name : str
        Path of the image below its split, without suffix: ``"mini/mini_000003_000019"``.
    subset : str
        Split or BRAVO subset; ``"train"`` also where the sample came by way of a part of it.
    image_path : Path
    label_path, invalid_path : Path or None
        None where the dataset has no label map or no mask.
    encoding : {"train-ids", "label-ids", "camvid"}
        What the ids in the label file mean.
    """

    name: str
    subset: str
    image_path: Path
    label_path: Path | None = None
    invalid_path: Path | None = None
    encoding: str = "train-ids"

    def image(self) -> np.ndarray:
        """Read the image: uint8 RGB, shape (H, W, 3). Raises ``DatasetError`` as ``read_image`` does."""
        return read_image(self.image_path)

    def label(self) -> np.ndarray | None:
        """Read the label map: uint8, shape (H, W), train ids 0..18 and 255 for void; None without labels.

        Raises
        ------
        DatasetError
            If the file is unreadable, holds other ids, or differs in size from the image.
        """
        if self.label_path is None:
            return None
        label = to_train_ids(read_ids(self.label_path), self.encoding, f"The label file {self.label_path}")
        self._check_size(label, self.label_path)
        return label

    def invalid(self) -> np.ndarray:
        """Read the mask of invalid (out-of-distribution) pixels: bool, shape (H, W); without one, all False.

        Raises
        ------
        DatasetError
            If the file is unreadable or differs in size from the image.
        """
        if self.invalid_path is None:
            return np.zeros(image_size(self.image_path), dtype=bool)
        mask = read_mask(self.invalid_path)
        self._check_size(mask, self.invalid_path)
        return mask

    def _check_size(self, array: np.ndarray, path: Path) -> None:
        (rows, columns), size = array.shape, image_size(self.image_path)
        if (rows, columns) != size:
            raise DatasetError(
                f"{path} has {rows}x{columns} pixels (height x width) but its image {self.image_path} has "
                f"{size[0]}x{size[1]}; resize it to the image (nearest neighbour) or replace it."
            )


class Dataset(Sequence[Sample]):
    """An immutable sequence of samples.

    Attributes
    ----------
    name, split : str
        As asked of ``load_dataset``.
    root : Path
        The folder that holds the dataset folders.
    """

    def __init__(self, name: str, split: str, root: Path, samples: Sequence[Sample]):
        self.name, self.split, self.root = name, split, root
        self._samples = tuple(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Dataset(self.name, self.split, self.root, self._samples[index])
        return self._samples[index]

    def __repr__(self) -> str:
        return f"Dataset({self.name}/{self.split}, {len(self)} images, {self.root})"


def load_dataset(
    dataset: str,
    split: str | None = None,
    root: str | Path | None = None,
    limit: int | None = None,
    seed: int | None = None,
) -> Dataset:
    """List the images of one split of a dataset, in sorted order.

    Parameters
    ----------
    dataset : {"mini", "cityscapes", "camvid", "bravo", "masks"}
        Or both in one string, as in ``"mini/train-fit"``.
    split : str
        See ``DATASETS``. ``train-fit`` and ``train-calibration`` divide the sorted ``train`` images 4:1
        (every fifth is for calibration). For "masks" the name of a folder of photographs ``X.jpg`` or
        ``X.png`` with anomaly masks ``X_mask.png`` (not zero: anomaly; there is no label map).
    root : path, optional
        The folder that holds ``cityscapes/``, ``camvid/``, ``bravo/`` or the folder of masks. Default: the
        shipped scenes for "mini", else the environment variable ``IOOD_DATA``.
    limit : int, optional
        Keep only this many images: the first ones, or, with a ``seed``, a random choice.
    seed : int, optional
        Makes ``limit`` draw at random instead; the same seed gives the same images.

    Returns
    -------
    Dataset
        Sequence of ``Sample``. Where a benchmark withholds the labels (Cityscapes test, BRAVO) and the split
        has no label file at all, ``label_path`` is None for every sample.

    Raises
    ------
    DatasetError
        If dataset, split, or folder do not exist, the split is empty, or an image lacks its label or mask.
    """
    name, _, rest = dataset.partition("/")
    if split is None:
        split = rest
    elif rest:
        raise DatasetError(f"The split is given twice, in {dataset!r} and as {split!r}; give it once.")
    if name not in DATASETS:
        raise DatasetError(f"There is no dataset {name!r}; choose one of {', '.join(DATASETS)}.")
    if split not in DATASETS[name] and (name != "masks" or not split):
        choices = ", ".join(DATASETS[name]) or "the name of a folder, as in 'masks/photographs'"
        raise DatasetError(f"The dataset {name!r} has no split {split!r}; choose one of: {choices}.")
    if limit is not None and limit < 1:
        raise DatasetError(f"The limit of {limit} images leaves none; choose 1 or more, or None for all.")

    folder = _root(name, root)
    samples = _samples(name, split, folder)
    if not samples:
        raise DatasetError(
            f"The split {name}/{split} below {folder} holds no images; complete the download, or choose another split."
        )
    names = [sample.name for sample in samples]
    if len(set(names)) < len(names):
        twice = next(one for one, two in zip(names, names[1:], strict=False) if one == two)
        raise DatasetError(f"The image {twice} of {name}/{split} below {folder} exists in two formats; remove one.")
    if limit is not None and limit < len(samples):
        chosen = np.arange(limit)
        if seed is not None:
            chosen = np.sort(np.random.default_rng(seed).choice(len(samples), limit, replace=False))
        samples = [samples[i] for i in chosen]
    return Dataset(name, split, folder, samples)


def _root(name: str, root: str | Path | None) -> Path:
    if root is None and name == "mini":
        return mini_dir()
    if root is None:
        root = os.environ.get("IOOD_DATA") or None
    if root is None:
        raise DatasetError(
            f"Where the dataset {name!r} lies is not known; pass root=, or set the environment variable "
            "IOOD_DATA, to the folder that holds its folder."
        )
    return Path(root).expanduser()


def _samples(name: str, split: str, root: Path) -> list[Sample]:
    if split in _VIRTUAL:
        calibration = split == "train-calibration"
        return [
            sample
            for position, sample in enumerate(_samples(name, "train", root))
            if (position % CALIBRATION_EVERY == CALIBRATION_EVERY - 1) == calibration
        ]
    if name == "camvid":
        return _camvid(split, root)
    if name == "masks":
        return _masks(split, root)
    if split in MINI_LAYOUT:
        return _bravo(split, root)
    return _cityscapes(split, root)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise DatasetError(
            f"The folder {path} does not exist; put the data there, or name another place by root= or "
            "the environment variable IOOD_DATA."
        )
    return path


def _images(folder: Path, ending: str = "", unless: tuple[str, ...] = ()) -> list[tuple[str, Path]]:
    """Sorted (name, path) of the images below ``folder`` whose stem ends in ``ending``; no hidden files."""
    found = []
    for path in _folder(folder).rglob("*"):
        stem = path.stem
        if path.suffix.lower() not in IMAGE_SUFFIXES or not stem.endswith(ending) or stem.startswith("."):
            continue
        if not path.name.endswith(unless):
            base = path.with_name(stem.removesuffix(ending))
            found.append((base.relative_to(folder).as_posix(), path))
    return sorted(found)


def _companions(
    images: list[tuple[str, Path]], find: Callable[[str], Path], what: str, optional: bool
) -> list[Path | None]:
    """The file that belongs to each image; all None where it is optional and no image has one."""
    paths = [find(name) for name, _ in images]
    there = [path.is_file() for path in paths]
    if optional and not any(there):
        return [None] * len(paths)
    if not all(there):
        missing = there.index(False)
        raise DatasetError(
            f"The image {images[missing][1]} has no {what}: {paths[missing]} does not exist; "
            "restore it or remove the image."
        )
    return list(paths)


def _cityscapes(split: str, root: Path) -> list[Sample]:
    images = _images(root / "cityscapes" / "leftImg8bit" / split, "_leftImg8bit")
    truth = root / "cityscapes" / "gtFine" / split
    encoding, ending = "train-ids", "_gtFine_labelTrainIds.png"
    # the official download holds label ids only; train ids are made from them by a tool of its own
    if images and not (truth / f"{images[0][0]}{ending}").is_file():
        stock = "_gtFine_labelIds.png"
        if (truth / f"{images[0][0]}{stock}").is_file():
            encoding, ending = "label-ids", stock
    labels = _companions(images, lambda name: truth / f"{name}{ending}", "label file", split == "test")
    return [
        Sample(name, split, path, label, encoding=encoding) for (name, path), label in zip(images, labels, strict=True)
    ]


def _bravo(split: str, root: Path) -> list[Sample]:
    layout = MINI_LAYOUT[split]
    folder = root / "bravo" / layout.folder
    images = _images(folder, layout.image, unless=(layout.label, layout.mask))
    if layout.part:
        images = [image for image in images if layout.part in Path(image[0]).parts[:-1]]
    labels = _companions(images, lambda name: folder / f"{name}{layout.label}", "label file", True)
    masks = _companions(images, lambda name: folder / f"{name}{layout.mask}", "mask of invalid pixels", True)
    return [
        Sample(name, split, path, label, mask) for (name, path), label, mask in zip(images, labels, masks, strict=True)
    ]


def _camvid(split: str, root: Path) -> list[Sample]:
    folder, truth = root / "camvid" / split, root / "camvid" / f"{split}annot"
    images = _images(folder)
    listing = root / "camvid" / f"{split}.txt"
    if listing.is_file():
        found = dict(images)
        # a line holds a name, or the image's and the label's path as in the list of the original source
        listed = sorted({Path(line.split()[0]).stem for line in listing.read_text().splitlines() if line.strip()})
        missing = [name for name in listed if name not in found]
        if missing:
            raise DatasetError(
                f"The list {listing} names {missing[0]}, which {folder} does not hold; complete the download."
            )
        images = [(name, found[name]) for name in listed]
    labels = _companions(images, lambda name: truth / f"{name}.png", "label file", False)
    return [
        Sample(name, split, path, label, encoding="camvid") for (name, path), label in zip(images, labels, strict=True)
    ]


def _masks(split: str, root: Path) -> list[Sample]:
    folder = root / split
    images = _images(folder, unless=("_mask.png",))
    masks = _companions(images, lambda name: folder / f"{name}_mask.png", "anomaly mask", False)
    return [Sample(name, split, path, None, mask) for (name, path), mask in zip(images, masks, strict=True)]
