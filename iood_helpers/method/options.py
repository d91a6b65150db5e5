"""The same checks for the options of every rule, and for the confidences that it gets."""

from __future__ import annotations

import numbers

import numpy as np

from ..errors import RefinementError


def check_options(rule: object, **ranges: tuple[float, float]) -> None:
    """RefinementError unless each named attribute is a number within its range (both ends included; no NaN)."""
    for name, (low, high) in ranges.items():
        value = getattr(rule, name)
        number = isinstance(value, numbers.Real | np.number) and not isinstance(value, bool | np.bool_)
        if not number or not low <= value <= high or not np.isfinite(value):
            raise RefinementError(
                f"The option {name}={value!r} of {type(rule).__name__} must be a number from {low:g} to {high:g}."
            )


def check_confidence(confidence: np.ndarray) -> None:
    """RefinementError unless all confidences are within 0..1 (to rounding); NaN is not."""
    if not confidence.size or not (confidence.min() >= -1e-5 and confidence.max() <= 1 + 1e-5):
        raise RefinementError("The prediction's confidences are NaN or outside 0..1; check image and checkpoint.")
