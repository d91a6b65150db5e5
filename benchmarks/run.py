"""Run all benchmarks and write RESULTS.md; see ``make bench``.

Each runs in a process of its own, alone: a machine that does something else meanwhile gives other numbers.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from iood_helpers.files import write_atomically
from iood_helpers.run import git_commit

HERE = Path(__file__).resolve().parent
SCRIPTS = [
    "bench_dcnv3",
    "bench_forward",
    "bench_published",
    "bench_refinement",
    "bench_kmeans",
    "bench_metrics",
    "bench_extraction",
    "cost_model",
]
PACKAGES = ["torch", "numba", "numpy", "scikit-learn", "onedl-mmsegmentation"]


def lines_of(script: str) -> list[dict]:
    """What a script printed as JSON."""
    result = subprocess.run([sys.executable, str(HERE / f"{script}.py")], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{script} failed:\n{result.stderr[-3000:]}")
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def duration(value: float | None) -> str:
    """Seconds for people."""
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def size(value: int | None) -> str:
    """Bytes for people."""
    if value is None:
        return "-"
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def machine() -> str:
    """Processor, cores, versions, commit, date."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    today = datetime.datetime.now(datetime.UTC).date()
    commit = (git_commit() or "unknown")[:7]
    return (
        f"{today}, commit `{commit}`; {model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of PyTorch, "
        f"{torch.backends.cpu.get_cpu_capability()}; Python {platform.python_version()}, {versions}."
    )


def comparison_table(rows: list[dict]) -> str:
    """Markdown of what was compared."""
    text = ["| What | plain | ours | ratio | memory, plain | memory, ours | same numbers? |", "|" + "---|" * 7]
    for row in rows:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.1f} x"
        cells = [row["what"], duration(row["plain"]), duration(row["ours"]), ratio]
        cells += [size(row["plain_memory"]), size(row["ours_memory"]), row["agreement"]]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def cost_table(rows: list[dict]) -> str:
    """Markdown of what a forward pass and whole data sets cost."""
    text = [
        "| Model | GFLOP | weights | memory beyond | predicted | measured | Cityscapes (3475 images) | BRAVO (3000) |",
        "|" + "---|" * 8,
    ]
    for row in rows:
        hours = [f"{4 * row['measured'] * images / 3600:.1f} h" for images in (3475, 3000)]
        cells = [row["model"], f"{row['flop'] / 1e9:.0f}", size(row["weights"]), size(row["memory"])]
        cells += [duration(row["predicted"]), duration(row["measured"]), *hours]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, help="measure just these")
    args = parser.parse_args()
    found = {script: lines_of(script) for script in tqdm(args.only, desc="benchmarks")}
    costs = found.pop("cost_model", [])
    rows = [row for lines in found.values() for row in lines]
    parts = [machine(), "## Side by side", comparison_table(rows)]
    if costs:
        parts += ["## What a forward pass costs", cost_table(costs)]
    text = "\n\n".join(parts) + "\n"
    write_atomically(HERE / "RESULTS.md", lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
