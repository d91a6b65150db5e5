"""Starts the workers, reads what they report, and notices those that hang or die."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
SHARES = {"checkpoints": 18, "images": 28, "trees": 8, "submission": 18, "store": 8, "models": 12, "settings": 8}
"""Doors, and how many cases of a hundred each gets."""
SECONDS = 2.0 * float(os.environ.get("IOOD_FUZZ_SLOWNESS", "4"))
"""Processor time that a case may take: two seconds of a quick machine."""
PATIENCE = 60.0
"""Wall clock after which a worker without a word is ended."""
BATCH = 400


@dataclass
class Result:
    """What became of the cases of a loader.

    Attributes
    ----------
    loaded, refused
        How many ended well, in either way.
    faults
        Index to the report of those that did not.
    """

    loaded: int = 0
    refused: int = 0
    faults: dict[int, dict] = field(default_factory=dict)

    def add(self, other: Result) -> None:
        """Count what another worker saw."""
        self.loaded += other.loaded
        self.refused += other.refused
        self.faults |= other.faults


def run_all(cases: int, seed: int, keep: Path, jobs: int = 2, shares: Mapping[str, int] = SHARES) -> dict[str, Result]:
    """Run a number of cases over all loaders; the files of those that fail are left in ``keep``."""
    tasks = []
    for loader, share in shares.items():
        number = max(1, round(cases * share / sum(shares.values())))
        batch = max(BATCH, -(-number // 8))
        tasks += [(loader, first, min(first + batch, number)) for first in range(0, number, batch)]
    results = {loader: Result() for loader in shares}
    with ThreadPoolExecutor(jobs) as pool:
        for (loader, *_), result in zip(
            tasks, pool.map(lambda t: run_loader(t[0], seed, t[1], t[2], keep), tasks), strict=True
        ):
            results[loader].add(result)
    return results


def run_loader(loader: str, seed: int, first: int, stop: int, keep: Path, seconds: float = SECONDS) -> Result:
    """Run cases ``first`` to ``stop`` of one loader; a worker that dies or hangs costs its case, the others go on."""
    result = Result()
    with tempfile.TemporaryDirectory(prefix="iood-fuzz-", ignore_cleanup_errors=True) as folder:
        while first < stop:
            first = _run_worker(loader, seed, first, stop, Path(folder), keep, seconds, result)
    return result


def _run_worker(
    loader: str, seed: int, first: int, stop: int, folder: Path, keep: Path, seconds: float, result: Result
) -> int:
    """Let one worker do what it can; returns the first case that is still to do."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder / "temporary"),
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # or each thread takes 64 MB of addresses, which the limit counts
    }
    command = [sys.executable, "-m", "fuzzing.worker", loader, *map(str, (seed, first, stop, seconds, folder))]
    log = folder / "errors.txt"
    with log.open("w") as errors:
        worker = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=folder, text=True
        )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(worker.stdout, lines), daemon=True).start()
    current, made = None, ""
    try:
        while True:
            try:
                line = lines.get(timeout=PATIENCE)
            except queue.Empty:
                what = f"no answer within {PATIENCE:.0f} s"
                break
            if line is None:
                worker.wait()
                if worker.returncode == 0:
                    return stop
                what = f"the worker died ({worker.returncode}): {log.read_text(errors='replace')[-1500:]}"
                break
            report = json.loads(line)
            current = report["index"]
            if "begins" in report:
                made = report["begins"]
                continue
            if report["outcome"] == "fault":
                result.faults[current] = report
                _save(folder / f"failed-{current}", keep / f"{loader}-{seed}-{current}", report)
            elif report["outcome"] == "loaded":
                result.loaded += 1
            else:
                result.refused += 1
    finally:
        worker.kill()
        worker.wait()
    if current is None:
        raise RuntimeError(f"The loader {loader} cannot be prepared: {what}")
    if current in result.faults:  # it died between two cases: the next one is to blame
        current += 1
    result.faults[current] = {"outcome": "fault", "kind": what, "where": "", "what": made, "seconds": 0}
    _save(folder / "case", keep / f"{loader}-{seed}-{current}", result.faults[current])
    return current + 1


def _read(stream, lines: queue.Queue) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _save(case: Path, place: Path, report: dict) -> None:
    """Keep the files of a case beside the report; where they cannot be copied, they can be made again."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "report.json").write_text(json.dumps(report, indent=2))
    with contextlib.suppress(OSError, shutil.Error):
        shutil.copytree(case, place / "case", symlinks=True)


def told(results: Mapping[str, Result], seed: int) -> str:
    """Results in words: a line for each loader, and each kind of fault once with how to see it again."""
    lines = []
    for loader, result in results.items():
        lines.append(f"{loader}: {result.loaded} loaded, {result.refused} refused, {len(result.faults)} faults")
        kinds: dict[str, list[int]] = {}
        for index, fault in sorted(result.faults.items()):
            where = re.sub(r"\d+", "N", fault["where"].split(":")[0]) if fault["kind"] == "accepted" else fault["where"]
            kinds.setdefault(f"{fault['kind'].split(':')[0]} | {where[:120]}", []).append(index)
        for kind, indices in sorted(kinds.items(), key=lambda item: -len(item[1])):
            fault = result.faults[indices[0]]
            lines.append(
                f"  {len(indices)} x {kind}\n      {fault['kind'][:300]}\n      from: {fault['what'][:200]}\n"
                f"      again: python -m tests.fuzzing --loader {loader} --seed {seed} --case {indices[0]}"
            )
    return "\n".join(lines)
