"""The same checks of numbers, vectors and classes wherever they enter; the caller says which error is raised."""

from __future__ import annotations

import numpy as np

from .classes import NUM_CLASSES
from .errors import IoodError

MAX_SEED = 2**32 - 1


def whole(name: str, value: int, low: int, high: int, error: type[IoodError]) -> int:
    """A whole number of Python or NumPy between two limits, as Python's own."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
        raise error(f"{name} is a whole number from {low} to {high}, not {value!r}.")
    return int(value)


def vectors(values: np.ndarray, error: type[IoodError], width: int | None = None) -> np.ndarray:
    """Vectors (n, D) of any type of number as float32. Whether they are finite is told by :func:`finite`."""
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise error(f"Vectors are (n, D) numbers, not {values.shape} of type {values.dtype}.")
    if width is not None and values.shape[1] != width:
        raise error(f"Vectors have {values.shape[1]} numbers instead of {width}; use the same embedder as for fitting.")
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def finite(values: np.ndarray, error: type[IoodError]) -> np.ndarray:
    """The vectors themselves, if they hold no NaN and nothing infinite."""
    if not np.isfinite(values).all():
        raise error("The vectors hold NaN or infinite values; check the embeddings and the segmenter's features.")
    return values


def train_ids(values: np.ndarray, number: int, error: type[IoodError]) -> np.ndarray:
    """Train ids 0..18, (number,) whole numbers of any type (floats too, where they are whole)."""
    values = np.asarray(values)
    if values.shape != (number,):
        raise error(f"Classes {values.shape} and {number} vectors or values do not fit.")
    if values.dtype.kind not in "fiu" or not np.array_equal(values, np.trunc(values)):
        raise error(f"Classes must be whole numbers, not {values.dtype}.")
    if number and (values.min() < 0 or values.max() >= NUM_CLASSES):
        raise error(f"Classes must be train ids 0..{NUM_CLASSES - 1}; found {values.min()} to {values.max()}.")
    return values if values.dtype.kind in "iu" else values.astype(np.int64)
