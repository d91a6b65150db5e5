"""What a loader hands to the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Implausible(Exception):
    """A file was accepted although what it gave cannot be right."""


@dataclass
class Case:
    """One damaged input.

    Attributes
    ----------
    what
        How it was made, for people.
    names
        An error has to mention one of them: the file, in general.
    load
        Calls the package.
    check
        Gets what ``load`` gave, raises ``Implausible`` if that cannot be right. The package's own errors are welcome
        here too: some values are looked at only when they are used.
    writes
        Whether ``load`` may write into the case's folder; readers must leave it as it is.
    """

    what: str
    names: tuple[str, ...]
    load: Callable[[], Any]
    check: Callable[[Any], None] = field(default=lambda _: None)
    writes: bool = False


def demand(condition: Any, what: str) -> None:
    """Raise ``Implausible`` unless the condition holds."""
    if not condition:
        raise Implausible(what)
