"""Extraction of more and more images by more and more processes, and what Dask adds to a task; writes SCALE.md.

    python benchmarks/bench_scale.py [--images 10 100 1000 3000] [--workers 0 1 2 4]

0 workers is one process without Dask. Each line is measured in processes of its own, with one thread each. The network
is the shipped nano on crops of 96 x 192 pixels, so that a task takes some ten milliseconds: the hardest case for a
scheduler.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch
from PIL import Image
from run import duration, machine, size, table

from iood_helpers import PixelEmbedder, load_dataset
from iood_helpers.datasets.samples import Dataset, Sample
from iood_helpers.io import write_atomically
from iood_helpers.scale import Network, extract
from iood_helpers.scale.clients import load_everywhere
from iood_helpers.scale.tasks import run as run_tasks

PAGE = Path(__file__).resolve().parent / "SCALE.md"
CROP = (96, 192)
TASKS, TASK_SECONDS = 200, 0.05


def peak() -> int:
    """Bytes of memory that this process needed at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def wait(_number: int) -> None:
    """A task of 50 ms."""
    time.sleep(TASK_SECONDS)


def crops(folder: Path, number: int) -> Dataset:
    """Many names for one crop of a scene: every image costs the same."""
    scene = load_dataset("mini/val", limit=1)[0].image()
    path = folder / "crop.png"
    Image.fromarray(scene[: CROP[0], : CROP[1]]).save(path)
    return Dataset("crops", "all", folder, [Sample(f"crop_{index:06}", "all", path) for index in range(number)])


def measure(images: int, workers: int) -> dict:
    """One line: what extraction took; with 0 images, 200 tasks of 50 ms."""
    torch.set_num_threads(1)
    network, client = Network(), None
    with ExitStack() as stack:
        if workers:
            from distributed import Client, LocalCluster

            options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
            client = stack.enter_context(Client(stack.enter_context(LocalCluster(**options))))
        row = {"images": images, "workers": workers}
        if not images:
            for _ in run_tasks(wait, range(workers or 1), client=client):
                pass  # warms up
            start = time.perf_counter()
            for _ in run_tasks(wait, range(TASKS), client=client):
                pass
            return {**row, "seconds": time.perf_counter() - start}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = crops(folder, images)
        if client is not None:
            load_everywhere(client, network)
        else:
            network.segmenter()
        extract(network, crops(folder, 2), PixelEmbedder((0,)), folder / "warm", client=client, progress=False)
        start = time.perf_counter()
        store = extract(
            network, data, PixelEmbedder((0,)), folder / "s", client=client, n_per_class=20_000, progress=False
        )
        seconds = time.perf_counter() - start
        written = sum(path.stat().st_size for path in (folder / "s").rglob("*") if path.is_file())
        peaks = client.run(peak).values() if client is not None else [peak()]
        return {**row, "seconds": seconds, "peak": max(peaks), "here": peak(), "written": written, "rows": len(store)}


def in_a_process(images: int, workers: int) -> dict:
    """The same, in a process of its own."""
    command = [sys.executable, __file__, "--one", str(images), str(workers)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{images} images on {workers} workers failed:\n{found.stderr[-3000:]}")
    row = found.stdout.splitlines()[-1]
    print(row, file=sys.stderr, flush=True)
    return json.loads(row)


def page(rows: list[dict], load: float) -> str:
    """What was measured, as tables."""
    tasks = {row["workers"]: row["seconds"] for row in rows if not row["images"]}
    alone = {row["images"]: row["seconds"] for row in rows if row["images"] and not row["workers"]}
    header = ["Images", "workers", "time", "images a second", "beside one process", "memory, worker", "memory, client"]
    lines = [
        [
            str(row["images"]),
            str(row["workers"] or "none"),
            duration(row["seconds"]),
            f"{row['images'] / row['seconds']:.1f}",
            f"{alone[row['images']] / row['seconds']:.2f} x" if row["images"] in alone else "-",
            size(row["peak"]) if row["workers"] else "-",
            size(row["here"]),
            size(row["written"]),
        ]
        for row in rows
        if row["images"]
    ]
    text = f"{machine()} {load:.1f} processes were at work on average, these among them.\n\n"
    text += table([*header, "written"], lines)
    if 0 in tasks:
        text += f"\n\n{TASKS} tasks of 50 ms took {tasks[0]:.2f} s in one process"
        text += "".join(
            f", {seconds:.2f} s on {workers} worker{'s' * (workers > 1)} ({seconds * workers / tasks[0] - 1:+.1%})"
            for workers, seconds in tasks.items()
            if workers
        )
        text += "; in brackets, what Dask adds to each task."
    return text + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10, 100, 1000, 3000])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one)), flush=True)
        return
    rows = [in_a_process(images, workers) for images in [0, *args.images] for workers in args.workers]
    text = page(rows, os.getloadavg()[2])
    write_atomically(PAGE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print(text)


if __name__ == "__main__":
    main()
