"""Old names, kept for one version: they work and warn."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def warn(old: str, new: str) -> None:
    """Say that a name has changed, at the line that uses the old one."""
    warnings.warn(f"{old} is now called {new}; the old name goes with the next version.", FutureWarning, stacklevel=3)


def old_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for names that have changed.

    Parameters
    ----------
    module
        ``__name__`` of the module.
    names
        Old to new.

    Examples
    --------
    >>> from iood_helpers import detectors
    >>> with warnings.catch_warnings(record=True):
    ...     detectors.Bank is detectors.FeatureBank
    True
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name}", names[name])
        return getattr(sys.modules[module], names[name])

    return get
