"""The same checks of numbers, vectors and classes wherever they enter; the caller says which error is raised."""

from __future__ import annotations

import numpy as np

from .datasets.labels import NUM_CLASSES, VOID
from .errors import IoodError

MAX_SEED = 2**32 - 1
LEVELS = 1 << 16
"""Levels in which the benchmark counts confidences."""


def whole(name: str, value: int, low: int, high: int, error: type[IoodError]) -> int:
    """A whole number of Python or NumPy between two limits, as Python's own."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
        raise error(f"{name} is a whole number from {low} to {high}, not {value!r}.")
    return int(value)


def vectors(values: np.ndarray, error: type[IoodError], width: int | None = None) -> np.ndarray:
    """Vectors (n, D) of any type of number as float32. Whether they are finite is told by :func:`finite`."""
    if hasattr(values, "toarray"):
        raise error("Vectors are dense arrays, not sparse ones; call toarray first.")
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


def class_map(ids: np.ndarray, what: str, error: type[IoodError], void: bool = False) -> np.ndarray:
    """Train ids 0..18 (and 255, if void is allowed), whole numbers of any type and shape, as they are."""
    ids = np.asarray(ids)
    if not np.issubdtype(ids.dtype, np.integer):
        raise error(f"{what} have type {ids.dtype}; pass integers.")
    wrong = ids >= NUM_CLASSES
    if ids.dtype.kind != "u":
        wrong |= ids < 0
    if void:
        wrong &= ids != VOID
    if wrong.any():
        found = np.unique(ids[wrong])[:10].tolist()
        allowed = "0..18 or 255 for void" if void else "0..18"
        raise error(f"{what} hold the ids {found}; pass train ids {allowed}.")
    return ids


def mask(values: np.ndarray, what: str, error: type[IoodError]) -> np.ndarray:
    """True where a mask of bools or numbers is not zero, (any shape) bool."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or np.isnan(values).any():
        raise error(f"{what} is no mask but {values.dtype} (or holds NaN); pass bools, or numbers that are not NaN.")
    return values.astype(bool, copy=False)


def confidence_levels(
    confidence: np.ndarray, what: str, error: type[IoodError], indices: np.ndarray | None = None
) -> np.ndarray:
    """Levels 0..65535 as int64, of floats 0..1 or of levels themselves; all values must be within the range.

    With ``indices`` (into the flattened map) only those pixels are returned.
    """
    confidence = np.asarray(confidence)
    if np.issubdtype(confidence.dtype, np.floating):
        # softmax rounding may leave 1.0000001; anything more is another quantity (a logit, a percentage)
        low, high, unit = -1e-5, 1 + 1e-5, "floats 0..1"
        scale = np.float64(LEVELS - 1)
    elif np.issubdtype(confidence.dtype, np.integer) and confidence.dtype.itemsize > 1:
        low, high, unit, scale = 0, LEVELS - 1, "levels 0..65535", None
    else:
        raise error(f"{what} have type {confidence.dtype}; pass floats 0..1 or uint16.")
    if confidence.size and not (confidence.min() >= low and confidence.max() <= high):
        raise error(f"{what} span {confidence.min()} to {confidence.max()}; pass {unit} without NaN.")
    chosen = confidence if indices is None else confidence.ravel()[indices]
    if scale is None:
        return chosen.astype(np.int64)
    return np.round(chosen.astype(np.float64).clip(0, 1) * scale).astype(np.int64)
