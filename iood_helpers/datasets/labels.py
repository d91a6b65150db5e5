"""The 19 Cityscapes training classes, their names and colours, and the label ids of other data sets in their terms.

Order, names and colours are those of the Cityscapes label definition (train ids 0..18; 255 is void).
"""

from __future__ import annotations

import numpy as np

from ..errors import DatasetError
from .encodings import IDS

VOID = 255

_COLORS = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
CLASS_NAMES: tuple[str, ...] = tuple(_COLORS)
NUM_CLASSES = len(CLASS_NAMES)
PALETTE = np.array(list(_COLORS.values()), dtype=np.uint8)
"""RGB colour of each train id, shape (19, 3), uint8."""

CITYSCAPES_LABEL_IDS: tuple[int, ...] = (
    *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22),
    *(23, 24, 25, 26, 27, 28, 31, 32, 33),
)
"""Label id (``*_gtFine_labelIds.png``, 0..33) of each train id, from the Cityscapes label definition."""

CAMVID_VOID = 11

CAMVID_TO_CITYSCAPES: tuple[int, ...] = (10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 12)
"""Train id of each CamVid id: sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist (as
rider)."""


def lookup(pairs: dict[int, int], fill: int) -> np.ndarray:
    """A table of 256 values, uint8, from the pairs; ``fill`` where there is none."""
    table = np.full(256, fill, dtype=np.uint8)
    for source, target in pairs.items():
        table[source] = target
    return table


_UNKNOWN = 254  # stands for "no such id" inside the tables; no label format uses it

LABEL_TABLES: dict[str, np.ndarray] = {
    "train-ids": lookup({VOID: VOID} | {i: i for i in range(19)}, _UNKNOWN),
    "label-ids": lookup(
        {VOID: VOID} | dict.fromkeys(range(34), VOID) | {i: t for t, i in enumerate(CITYSCAPES_LABEL_IDS)},
        _UNKNOWN,
    ),
    "camvid": lookup({CAMVID_VOID: VOID, VOID: VOID} | dict(enumerate(CAMVID_TO_CITYSCAPES)), _UNKNOWN),
    **{
        encoding: lookup(
            {VOID: VOID}
            | dict.fromkeys(range(ids.last + 1), VOID)
            | {i: CLASS_NAMES.index(name) for i, name in ids.classes.items()},
            _UNKNOWN,
        )
        for encoding, ids in IDS.items()
    },
}
_EXPECTED = {
    "train-ids": "train ids 0..18 and 255 for void",
    "label-ids": "Cityscapes label ids 0..33",
    "camvid": "CamVid ids 0..10 and 11 for void",
    **{encoding: f"the ids 0..{ids.last} of {encoding}" for encoding, ids in IDS.items()},
}


def to_train_ids(label: np.ndarray, encoding: str, source: str = "The label map") -> np.ndarray:
    """Translate a stored label map into Cityscapes train ids.

    Parameters
    ----------
    label : ndarray of uint8, any shape
        Ids as stored.
    encoding : {"train-ids", "label-ids", "camvid", ...}
        What the stored ids mean; a key of ``LABEL_TABLES``.
    source : str
        How an error message names the label map.

    Returns
    -------
    ndarray of uint8, same shape
        0..18, and 255 for void.

    Raises
    ------
    DatasetError
        If the label map holds an id that the encoding does not know.

    Examples
    --------
    >>> to_train_ids(np.array([7, 26, 0], dtype=np.uint8), "label-ids").tolist()
    [0, 13, 255]
    """
    mapped = LABEL_TABLES[encoding][label]
    if (mapped == _UNKNOWN).any():
        ids = np.unique(label[mapped == _UNKNOWN]).tolist()
        shown = ", ".join(map(str, ids[:10])) + (", ..." if len(ids) > 10 else "")
        raise DatasetError(f"{source} holds the ids {shown}; store {_EXPECTED[encoding]} instead, or remove the image.")
    return mapped
