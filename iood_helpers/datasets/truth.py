"""Label maps and masks from their files, in one form whatever the data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DatasetError
from .encodings import COLORS, MASKS
from .images import read_colors, read_ids, read_mask
from .labels import CLASS_NAMES, VOID, lookup, to_train_ids

IN_DISTRIBUTION, ANOMALY = 0, 1
_UNKNOWN = 254

_MASK_TABLES = {
    encoding: lookup(
        dict.fromkeys(values.in_distribution, IN_DISTRIBUTION)
        | dict.fromkeys(values.anomaly, ANOMALY)
        | dict.fromkeys(values.void, VOID),
        _UNKNOWN,
    )
    for encoding, values in MASKS.items()
}


def read_label(path: Path, encoding: str) -> np.ndarray:
    """Read a label map as train ids.

    Parameters
    ----------
    path : Path
    encoding : str
        A key of ``labels.LABEL_TABLES`` or ``encodings.COLORS``.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        0..18, and 255 for void.

    Raises
    ------
    DatasetError
        If the file cannot be read exactly, or holds ids or colours that the encoding does not know.
    """
    if encoding not in COLORS:
        return to_train_ids(read_ids(path), encoding, f"The label file {path}")
    stored = read_colors(path).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    label = np.full(stored.shape, _UNKNOWN, dtype=np.uint8)
    for (red, green, blue), name in COLORS[encoding].items():
        label[stored == (red << 16 | green << 8 | blue)] = VOID if name is None else CLASS_NAMES.index(name)
    if (label == _UNKNOWN).any():
        odd = int(stored[label == _UNKNOWN][0])
        raise DatasetError(
            f"The label file {path} holds the colour {odd >> 16}:{odd >> 8 & 255}:{odd & 255}, which no class of "
            f"{encoding} has; restore the file or remove the image."
        )
    return label


def read_anomalies(path: Path, encoding: str) -> np.ndarray:
    """Read a mask.

    Parameters
    ----------
    path : Path
    encoding : str
        "nonzero" (0 in-distribution, anything else an anomaly, no void), or a key of ``encodings.MASKS``.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        0 in-distribution, 1 anomaly, 255 void.

    Raises
    ------
    DatasetError
        If the file cannot be read exactly, or holds colours or values that the encoding does not know.
    """
    if encoding == "nonzero":
        return read_mask(path).astype(np.uint8)
    stored = read_ids(path, "mask")
    mask = _MASK_TABLES[encoding][stored]
    if (mask == _UNKNOWN).any():
        odd = np.unique(stored[mask == _UNKNOWN])[:10].tolist()
        raise DatasetError(
            f"The mask {path} holds the values {', '.join(map(str, odd))}, which mean nothing in {encoding}; restore "
            "the file or remove the image."
        )
    return mask
