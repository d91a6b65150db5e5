"""What all accumulators share: how they name themselves in errors."""

from __future__ import annotations

from ..errors import MetricsError


class Counts:
    """Base of accumulators.

    Attributes
    ----------
    name : str or None
        Set or split, for error messages.
    images : int
        How many have been counted.
    """

    name: str | None
    images: int

    def _of(self) -> str:
        return f" of {self.name}" if self.name else ""

    def _need(self, condition: object, what: str, remedy: str) -> None:
        """MetricsError unless the metrics are defined."""
        if not condition:
            raise MetricsError(
                f"The metrics{self._of()} are not defined, since {what} in {self.images} images; {remedy}."
            )
