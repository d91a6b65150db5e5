"""Loading: mini scenes, street scenes, anomaly sets and folders with masks, all as ``Sample``.

Mini scenes are stored in the layouts of Cityscapes and BRAVO: one code path reads shipped and real data. The book's
page on data sets lists layouts and encodings.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from ..io import data_dir
from . import anomaly_layouts, layouts, street_layouts
from .images import FORMATS
from .layouts import ANY
from .samples import Dataset, Sample
from .trees import Tree, complete, find

CALIBRATION_EVERY = 5
"""Every fifth training image in sorted order belongs to ``train-calibration``, the rest to ``train-fit``."""

VIRTUAL = ("train-fit", "train-calibration")
"""Splits that are parts of ``train``."""

TREES: dict[str, dict[str, Tree]] = layouts.TREES | street_layouts.TREES | anomaly_layouts.TREES

DATASETS: dict[str, tuple[str, ...]] = {
    name: (*(split for split in trees if split != ANY), *(VIRTUAL if "train" in trees else ()))
    for name, trees in TREES.items()
}
"""Splits of each dataset; those of ``masks`` are folders that the user names."""


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
    dataset : str
        A key of ``DATASETS``, or both in one string, as in ``"mini/train-fit"``.
    split : str
        See ``DATASETS``; may be left out where there is one only. ``train-fit`` and ``train-calibration`` divide the
        sorted ``train`` images 4:1 (every fifth is for calibration). For "masks" the name of a folder of photographs
        ``X.jpg`` or ``X.png`` with anomaly masks ``X_mask.png`` (0 in-distribution, 255 void, else anomaly; there is
        no label map).
    root : str or Path, optional
        The folder that holds ``cityscapes/``, ``roadanomaly/`` and so on (names as in the book's page on data sets), or
        the folder of masks. Default: the shipped scenes for "mini", else the environment variable ``IOOD_DATA``.
    limit : int, optional
        Keep only this many images: the first ones, or, with a ``seed``, a random choice.
    seed : int, optional
        Makes ``limit`` draw at random instead; the same seed gives the same images.

    Returns
    -------
    Dataset
        Sequence of ``Sample``. Where a benchmark withholds the labels (Cityscapes test, BRAVO) and the split
        has no label file at all, ``label_path`` is None for every sample; the same with masks.

    Raises
    ------
    DatasetError
        If dataset, split, or folder do not exist, a folder cannot be read, the split is empty, or an image lacks its
        label or mask.
    """
    name, split = parse_name(dataset, split)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1):
        raise DatasetError(f"The limit of {limit!r} images is none; choose 1 or more, or None for all.")

    folder = data_root(name, root)
    samples = _samples(name, split, folder)
    if not samples:
        raise DatasetError(
            f"The split {name}/{split} below {folder} holds no images; complete the download, or choose another split. "
            f"Read are {', '.join(FORMATS)} files."
        )
    names = [sample.name for sample in samples]
    if len(set(names)) < len(names):
        twice = next(one for one, two in pairwise(names) if one == two)
        raise DatasetError(f"The image {twice} of {name}/{split} below {folder} exists in two formats; remove one.")
    if limit is not None and limit < len(samples):
        chosen = np.arange(limit)
        if seed is not None:
            chosen = np.sort(np.random.default_rng(seed).choice(len(samples), limit, replace=False))
        samples = [samples[i] for i in chosen]
    return Dataset(name, split, folder, samples)


def parse_name(dataset: str, split: str | None = None) -> tuple[str, str]:
    """Name and split, from one string or two.

    Raises
    ------
    DatasetError
        If there is no such dataset or split.
    """
    if not isinstance(dataset, str) or not isinstance(split, str | None):
        raise DatasetError(
            f"A dataset and a split are names, not {dataset!r} and {split!r}; give 'mini/val' or the like."
        )
    name, _, rest = dataset.partition("/")
    if split is None:
        split = rest
    elif rest:
        raise DatasetError(f"The split is given twice, in {dataset!r} and as {split!r}; give it once.")
    if name not in DATASETS:
        raise DatasetError(f"There is no dataset {name!r}; choose one of {', '.join(DATASETS)}.")
    if not split and len(DATASETS[name]) == 1:
        (split,) = DATASETS[name]
    if split not in DATASETS[name] and (ANY not in TREES[name] or not split):
        choices = ", ".join(DATASETS[name]) or "the name of a folder, as in 'masks/photographs'"
        raise DatasetError(f"The dataset {name!r} has no split {split!r}; choose one of: {choices}.")
    return name, split


def data_root(name: str, root: str | Path | None) -> Path:
    """The folder that holds a dataset's folder: the one given, that of the shipped scenes, or ``IOOD_DATA``.

    Raises
    ------
    DatasetError
        If none is known.
    """
    if root is None and name == "mini":
        return data_dir() / "mini"
    if root is None:
        root = os.environ.get("IOOD_DATA") or None
    if root is None:
        raise DatasetError(
            f"The folder of the dataset {name!r} is not known; pass root=, or set the environment variable "
            "IOOD_DATA, to the folder that holds its folder."
        )
    try:
        return Path(root).expanduser().absolute()
    except (TypeError, RuntimeError) as error:  # RuntimeError: "~" of an unknown user
        raise DatasetError(f"The folder {root!r} is not a valid path ({error}); pass another root=.") from error


def _samples(name: str, split: str, root: Path) -> list[Sample]:
    if split in VIRTUAL:
        return part_of(split, _samples(name, "train", root))
    tree = tree_of(name, split)
    return complete(find(tree, split, root), tree)


def part_of(split: str, samples: Sequence[Sample]) -> list[Sample]:
    """Those training images, in sorted order, that belong to a part of ``train``; all of them for other splits."""
    if split not in VIRTUAL:
        return list(samples)
    last, calibration = CALIBRATION_EVERY - 1, split == "train-calibration"
    return [sample for i, sample in enumerate(samples) if (i % CALIBRATION_EVERY == last) == calibration]


def tree_of(name: str, split: str) -> Tree:
    """Where the files of a split lie."""
    return TREES[name].get(split) or TREES[name][ANY]
