"""The maps of a prediction that vectors can be made of, called by number, by stride or by name.

A network gives any number of feature maps, and a decoder and logits of a stride of its own: nothing here takes four
maps, or stride 4, for granted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EmbeddingError

if TYPE_CHECKING:
    from ..model.segmenter import Prediction

Level = int | str
"""Number of a feature map (0 is the finest), ``"stride8"`` or the like, ``"decoder"`` or ``"logits"``."""
NAMED = ("decoder", "logits")
ALL_LEVELS: tuple[Level, ...] = (0, 1, 2, 3, *NAMED)
"""Everything that a network of four feature maps offers; :func:`offered` tells it for any network."""
_NAME = re.compile(r"[0-9]|[1-9][0-9]|stride[1-9][0-9]{0,3}|decoder|logits")


def level_of(text: Any) -> Level | None:
    """Level that a file calls ``text`` ("0", "stride8", "decoder"); None if that is no level."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        return None
    return int(text) if text.isdecimal() else text


def is_level(value: Any) -> bool:
    """Whether a plain value can name a level."""
    return isinstance(value, int | str) and not isinstance(value, bool) and level_of(str(value)) == value


def checked_levels(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Levels as Python's values, each there once.

    Raises
    ------
    EmbeddingError
        If one of them can name no level.
    """
    try:
        plain = tuple(int(v) if isinstance(v, np.integer) else v for v in levels)
    except TypeError:
        plain = ()
    if not plain or isinstance(levels, str) or not all(map(is_level, plain)) or len(set(plain)) < len(plain):
        raise EmbeddingError(
            f"Levels {levels!r} are not understood; choose from 0 (finest map), 1, ..., 'stride4', 'stride8', ..., "
            "'decoder' and 'logits', each at most once."
        )
    return plain


def stride(shape: Sequence[int], size: Sequence[int]) -> int:
    """Pixels a side of one cell of a map (h, w) of an image (H, W): the next power of two.

    Networks halve an image and round up, so that cells are a little smaller than their stride; a twentieth is left for
    those that round down.
    """
    return 2 ** math.ceil(math.log2(0.95 * max(pixels / cells for pixels, cells in zip(size, shape, strict=True))))


def offered(prediction: Prediction) -> dict[Level, int]:
    """Levels that a prediction has, each with its stride: feature maps from the finest on, decoder, logits."""
    maps = dict(enumerate(prediction.features)) | {name: getattr(prediction, name) for name in NAMED}
    return {level: stride(values.shape[1:], prediction.shape) for level, values in maps.items()}


def level_map(prediction: Prediction, level: Level) -> np.ndarray:
    """Map (C, h, w) of a level.

    Raises
    ------
    EmbeddingError
        If the prediction has no such level, or several feature maps of that stride.
    """
    if level in NAMED:
        return getattr(prediction, level)
    levels = offered(prediction)
    found = [level] if isinstance(level, int) and level in levels else []
    if isinstance(level, str):
        found = [number for number in range(len(prediction.features)) if f"stride{levels[number]}" == level]
    if len(found) == 1:
        return prediction.features[found[0]]
    problem = f"Levels {', '.join(map(str, found))} all have" if found else "There is no level"
    raise EmbeddingError(
        f"{problem} {level}: this model offers levels {', '.join(map(str, levels))} "
        f"at strides {', '.join(map(str, levels.values()))}; choose among these."
    )
