"""numba's compiler, with a cache where there is a place for one. numba is required: no slower way takes its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """``numba.njit(cache=True, **options)``; without a cache where no folder for it can be written.

    In containers and on clusters, the package's folder may be read-only and the user may have no home folder; there,
    caching raises an error as soon as the function is defined.
    """

    def decorate(function: Callable) -> Callable:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)

    return decorate
