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
SCRIPTS = {
    "bench_dcnv3": [()],
    "bench_forward": [()],
    "bench_loading": [()],
    "bench_published": [()],
    "bench_refinement": [()],
    "bench_kmeans": [()],
    "bench_metrics": [()],
    "bench_extraction": [()],
    "bench_precision": [()],
    "cost_model": [("nano",), ("t",), ("l",), ("xl",)],
}
"""Scripts, and the arguments of each run of them."""
DATA_SETS = {"Cityscapes": 2975 + 500, "BRAVO": 3000}
FULL_SIZE = 4  # their images have 1024 x 2048 pixels, four times as many as the measured ones
PACKAGES = ["torch", "numba", "numpy", "scikit-learn", "onedl-mmsegmentation"]


def lines_of(script: str) -> list[dict]:
    """What a script printed as JSON."""
    found = []
    for arguments in SCRIPTS[script]:
        command = [sys.executable, str(HERE / f"{script}.py"), *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise SystemExit(f"{script} failed:\n{result.stderr[-3000:]}")
        found += [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return found


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


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparisons(rows: list[dict]) -> str:
    """What was compared with the plain way."""
    header = ["What", "plain", "ours", "ratio", "memory, plain", "memory, ours", "same numbers?"]
    return table(
        header,
        [
            [
                row["what"],
                duration(row["plain"]),
                duration(row["ours"]),
                "-" if row["ratio"] is None else f"{row['ratio']:.1f} x",
                size(row["plain_memory"]),
                size(row["ours_memory"]),
                row["agreement"],
            ]
            for row in rows
        ],
    )


def steps(rows: list[dict]) -> str:
    """What each step gave, one after the other."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    cells = {(row["step"], row["model"]): f"{duration(row['seconds'])}, {row['ratio']:.2f} x" for row in rows}
    names = list(dict.fromkeys(row["step"] for row in rows))
    return table(["Step", *(m.upper() for m in models)], [[n, *(cells[n, m] for m in models)] for n in names])


def precisions(rows: list[dict]) -> str:
    """bfloat16 beside float32."""
    header = ["Model", "images", "pixels of equal class", "in the worst image", "mean change of confidence"]
    header += ["float32", "bfloat16", "ratio", "weights, float32", "weights, bfloat16"]
    return table(
        header,
        [
            [
                row["precision_of"],
                row["images"],
                *(f"{100 * row[key]:.2f} %" for key in ("agreement", "worst")),
                f"{row['confidence']:.4f}",
                *map(duration, row["seconds"]),
                f"{row['ratio']:.2f} x",
                *map(size, row["weights"]),
            ]
            for row in rows
        ],
    )


def costs(rows: list[dict]) -> str:
    """What a forward pass and whole data sets cost."""
    header = ["Model", "GFLOP", "weights", "memory beyond", "whole process", "predicted", "measured"]
    header += [f"{name} ({images} images)" for name, images in DATA_SETS.items()]
    return table(
        header,
        [
            [
                row["model"],
                f"{row['flop'] / 1e9:.0f}",
                *(size(row[key]) for key in ("weights", "memory", "process")),
                duration(row["predicted"]),
                duration(row["measured"]),
                *(f"{FULL_SIZE * row['measured'] * images / 3600:.1f} h" for images in DATA_SETS.values()),
            ]
            for row in rows
        ],
    )


SECTIONS = {
    "what": ("Side by side", comparisons),
    "step": ("What each step of a forward pass gave", steps),
    "precision_of": ("bfloat16 beside float32", precisions),
    "flop": ("What a forward pass costs", costs),
}
"""Key that tells lines of a kind, the heading above them, and what makes a table of them."""


def results(lines: list[dict]) -> str:
    """Text of RESULTS.md."""
    parts = [machine()]
    for line in lines:
        if "first_call" in line:
            parts.append(
                f"The first call of the DCNv3 core compiles it and takes {duration(line['first_call'])}; in later "
                f"processes the first call reads it from disk and takes {duration(line['later'])}."
            )
    for key, (heading, make) in SECTIONS.items():
        rows = [line for line in lines if key in line]
        if rows:
            parts += [f"## {heading}", make(rows)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS), help="measure just these")
    args = parser.parse_args()
    lines = [line for script in tqdm(args.only, desc="benchmarks") for line in lines_of(script)]
    text = results(lines)
    write_atomically(HERE / "RESULTS.md", lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
