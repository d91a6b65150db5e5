"""Samples that misbehave, in a module that worker processes can import."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from iood_helpers.datasets.samples import Dataset, Sample

LEVELS = (0, "decoder")
DRAW = {"n_per_class": 200, "seed": 3}


@dataclass(frozen=True)
class Deadly(Sample):
    """Ends its process when its image is read: once, with a file that remembers it, or always."""

    remembers: Path | None = None

    def image(self) -> np.ndarray:
        if self.remembers is None or not self.remembers.exists():
            if self.remembers is not None:
                self.remembers.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().image()


@dataclass(frozen=True)
class Counted(Sample):
    """Adds a line to a file when its image is read."""

    log: Path | None = None

    def image(self) -> np.ndarray:
        with self.log.open("a") as stream:
            stream.write(f"{self.name}\n")
        return super().image()


def replaced(dataset: Dataset, numbers: list[int], kind: type[Sample], **more: object) -> Dataset:
    """The data set with some samples made into another kind."""
    samples = list(dataset)
    for number in numbers:
        known = {field.name: getattr(samples[number], field.name) for field in fields(Sample)}
        samples[number] = kind(**known, **more)
    return Dataset(dataset.name, dataset.split, dataset.root, samples)


def slow_square(x: int) -> int:
    import time

    time.sleep(0.02)
    return x * x


def fail_on_three(x: int) -> int:
    from iood_helpers.errors import DatasetError

    if x == 3:
        raise DatasetError("three is damaged")
    return x * x


def broken(x: int) -> int:
    return x // 0


def assert_same(found, wanted):
    """Two sets of rows, to the last bit."""
    for name in wanted.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def deadly(item: tuple[int, Path]) -> int:
    """Ends its process for number 1 once and for number 3 always."""
    number, once = item
    if number == 3 or (number == 1 and not once.exists()):
        if number == 1:
            once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number
