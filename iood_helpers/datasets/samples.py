"""One image with what is known about its pixels, and an immutable sequence of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from ..errors import DatasetError
from .images import image_size, read_image
from .labels import VOID
from .overlays import add_overlay
from .truth import ANOMALY, read_anomalies, read_label


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
    encoding : {"train-ids", "label-ids", "camvid", ...}
        What the label file holds; the others are in ``encodings.IDS`` and ``encodings.COLORS``.
    mask_encoding : {"nonzero", "anomaly", ...}
        What the values of the mask mean. "nonzero": 0 is valid, anything else invalid, as the BRAVO protocol has it.
        "anomaly": 255 is void, 0 is in-distribution, anything else an anomaly. The others are in ``encodings.MASKS``.
    overlay_path : Path or None
        What has to be added to the image; None nearly everywhere (see ``overlays``).
    """

    name: str
    subset: str
    image_path: Path
    label_path: Path | None = None
    invalid_path: Path | None = None
    encoding: str = "train-ids"
    mask_encoding: str = "nonzero"
    overlay_path: Path | None = None

    def image(self) -> np.ndarray:
        """Read the image: uint8 RGB, shape (H, W, 3). Raises ``DatasetError`` as ``read_image`` does."""
        image = read_image(self.image_path)
        return image if self.overlay_path is None else add_overlay(image, self.overlay_path)

    def label(self) -> np.ndarray | None:
        """Read the label map: uint8, shape (H, W), train ids 0..18 and 255 for void; None without labels.

        Pixels that the mask calls void are void here, too.

        Raises
        ------
        DatasetError
            If the file is unreadable, holds other ids, or differs in size from the image.
        """
        if self.label_path is None:
            return None
        label = self._check_size(read_label(self.label_path, self.encoding), self.label_path)
        label[self.void()] = VOID
        return label

    def invalid(self) -> np.ndarray:
        """Read the mask of invalid (out-of-distribution) pixels: bool, shape (H, W); without one, all False.

        Raises
        ------
        DatasetError
            If the file is unreadable, differs in size from the image, or holds what ``mask_encoding`` does not know.
        """
        if self.invalid_path is None:
            return np.zeros(image_size(self.image_path), dtype=bool)
        mask = self._mask(self.invalid_path)
        found = mask == ANOMALY
        if self.mask_encoding == "anomaly" and not found.any() and (mask == VOID).any():
            warnings.warn(
                f"The mask {self.invalid_path} holds 0 and 255 only: 255 counts as void, so there is no anomaly in it; "
                "write anomalies as 1 if that is what 255 means.",
                stacklevel=2,
            )
        return found

    def void(self) -> np.ndarray:
        """Pixels that the mask leaves out of every count, bool, shape (H, W); raises as :meth:`invalid` does."""
        if self.invalid_path is None or self.mask_encoding == "nonzero":
            return np.zeros(image_size(self.image_path), dtype=bool)
        return self._mask(self.invalid_path) == VOID

    def _mask(self, path: Path) -> np.ndarray:
        return self._check_size(read_anomalies(path, self.mask_encoding), path)

    def _check_size(self, array: np.ndarray, path: Path) -> np.ndarray:
        (rows, columns), size = array.shape, image_size(self.image_path)
        if (rows, columns) != size:
            raise DatasetError(
                f"{path} has {rows}x{columns} pixels (height x width) but its image {self.image_path} has "
                f"{size[0]}x{size[1]}; resize it to the image (nearest neighbour) or replace it."
            )
        return array


class Dataset(Sequence[Sample]):
    """An immutable sequence of samples.

    Attributes
    ----------
    name, split : str
        As given to ``load_dataset``.
    root : Path
        The folder that holds the dataset folders.
    """

    def __init__(self, name: str, split: str, root: Path, samples: Sequence[Sample]):
        self.name, self.split, self.root = name, split, root
        self._samples = tuple(samples)

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        if isinstance(index, slice):
            return Dataset(self.name, self.split, self.root, self._samples[index])
        return self._samples[index]

    def __repr__(self) -> str:
        return f"Dataset({self.name}/{self.split}, {len(self)} images, {self.root})"
