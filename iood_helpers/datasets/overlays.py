"""Images that are published as what they add to others: Fishyscapes Static, on Cityscapes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ..errors import DatasetError


def add_overlay(image: np.ndarray, path: Path) -> np.ndarray:
    """Add the differences of colour in an ``.npz`` file to an image, within 0..255.

    Nothing in the file is executed, and no memory is taken for an array of another size than the image.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
    path : Path
        Holds an array ``rgb`` of the same shape, of integers or floats.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    DatasetError
        If the file is missing or damaged, or its array differs in shape.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("rgb.npy") as member:
            if np.lib.format.read_magic(member) != (1, 0):
                raise ValueError("an array of another version")
            shape, by_columns, kind = np.lib.format.read_array_header_1_0(member)
            if shape != image.shape or kind.kind not in "iuf":
                raise ValueError(f"an array {shape} of {kind} for an image {image.shape}")
            values = np.frombuffer(member.read(image.size * kind.itemsize), dtype=kind)
        added = values.reshape(shape, order="F" if by_columns else "C")
    except Exception as error:  # a damaged archive can fail in as many ways as zlib and NumPy have checks
        raise DatasetError(f"The overlay {path} cannot be read ({error}); replace it by an intact copy.") from error
    return (image + added.astype(np.float64)).clip(0, 255).astype(np.uint8)
