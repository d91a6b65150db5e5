"""Two ways to the same numbers, side by side: run in turn in one process, so that a busy machine slows both alike."""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROUNDS = 5
CLEAR_PEAK = "5"  # what Linux wants to be told to forget the peak so far


@dataclass(frozen=True)
class Row:
    """One line of the results; times are medians in seconds, memory in bytes beyond what was there before."""

    what: str
    plain: float | None
    ours: float
    ratio: float | None
    plain_memory: int | None
    ours_memory: int
    agreement: str


def compare(
    what: str,
    plain: Callable[[], object],
    ours: Callable[[], object],
    agreement: str,
    *,
    rounds: int = ROUNDS,
) -> Row:
    """Run both in turn, once to warm up and then ``rounds`` times; the ratio is the median over the rounds."""
    memory = [peak_memory(way) for way in (plain, ours)]
    return row(what, in_turn([(nothing, plain), (nothing, ours)], rounds), memory, agreement)


def row(what: str, times: list[list[float]], memory: list[int], agreement: str) -> Row:
    """Line of the results from the times of each round, the first way against the last one."""
    plain, *_, ours = (statistics.median(column) for column in zip(*times, strict=True))
    return Row(what, plain, ours, statistics.median(each[0] / each[-1] for each in times), *memory, agreement)


def in_turn(
    ways: Sequence[tuple[Callable[[], object], Callable[[], object]]], rounds: int = ROUNDS
) -> list[list[float]]:
    """Seconds of each way in each round; what prepares a way comes before it and is not measured."""
    times = []
    for _ in range(rounds):
        times.append([])
        for prepare, way in ways:
            prepare()
            times[-1].append(seconds(way))
    return times


def nothing() -> None:
    """No preparation."""


def alone(what: str, ours: Callable[[], object], agreement: str, rounds: int = ROUNDS) -> Row:
    """Measure what has no plain way that could run."""
    memory = peak_memory(ours)
    return Row(what, None, statistics.median(seconds(ours) for _ in range(rounds)), None, None, memory, agreement)


def seconds(way: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    gc.collect()
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def process_peak() -> int:
    """Bytes of resident memory that this process needed at most so far (since :func:`peak_memory` was last called)."""
    return _resident("VmHWM")


def peak_memory(way: Callable[[], object]) -> int:
    """Bytes of resident memory that a call needs at most, beyond what is there before (Linux with glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, or the call would reuse it unseen
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    before = _resident("VmRSS")
    way()
    return max(0, _resident("VmHWM") - before)


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def report(rows: list[Row]) -> None:
    """Print rows as lines of JSON, which ``run.py`` collects."""
    for row in rows:
        print(json.dumps(asdict(row)), flush=True)
