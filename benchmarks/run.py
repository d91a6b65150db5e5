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

import matplotlib.pyplot as plt
import torch
from tqdm import tqdm

from iood_helpers.course.display import INK
from iood_helpers.course.record import git_commit
from iood_helpers.io import write_atomically

HERE = Path(__file__).resolve().parent
SCRIPTS = {
    "bench_dcnv3": [()],
    "bench_forward": [()],
    "bench_loading": [()],
    "bench_published": [()],
    "bench_refinement": [()],
    "bench_real": [()],
    "bench_kmeans": [()],
    "bench_metrics": [()],
    "bench_extraction": [()],
    "bench_precision": [()],
    "cost_model": [("nano",), ("t",), ("l",), ("xl",)],
}
"""Scripts, and the arguments of each run of them."""
DATA_SETS = {"Cityscapes": 2975 + 500, "BRAVO": 3000}
FULL_SIZE = 4  # their images have 1024 x 2048 pixels, four times as many as the measured ones
SPACE = "\N{NO-BREAK SPACE}"
PICTURE = HERE.parent / "book" / "figures" / "speed.svg"
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
    return f"{value:.2f}{SPACE}s" if value >= 1 else f"{1000 * value:.0f}{SPACE}ms"


def size(value: int | None) -> str:
    """Bytes for people."""
    if value is None:
        return "-"
    return f"{value / 1e9:.2f}{SPACE}GB" if value >= 1e9 else f"{value / 1e6:.0f}{SPACE}MB"


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
                "-" if row["ratio"] is None else f"{row['ratio']:.1f}{SPACE}x",
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
    cells = {(row["step"], row["model"]): f"{duration(row['seconds'])}, {row['ratio']:.2f}{SPACE}x" for row in rows}
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
                *(f"{100 * row[key]:.2f}{SPACE}%" for key in ("agreement", "worst")),
                f"{row['confidence']:.4f}",
                *map(duration, row["seconds"]),
                f"{row['ratio']:.2f}{SPACE}x",
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
                *(f"{FULL_SIZE * row['measured'] * images / 3600:.1f}{SPACE}h" for images in DATA_SETS.values()),
            ]
            for row in rows
        ],
    )


def picture(rows: list[dict], path: Path) -> None:
    """Bars of the steps of a forward pass, a panel for each model; grey that is legible on white and on dark pages."""
    plt.rcParams.update({"svg.hashsalt": "speed", "font.size": 12})
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, panels = plt.subplots(len(models), 1, figsize=(7, 2.1 * len(models)), layout="constrained", squeeze=False)
    for panel, model in zip(panels[:, 0], models, strict=True):
        found = [row for row in rows if row["model"] == model][::-1]
        names = [row["step"] if row["step"] == "plain" else f"+ {row['step']}" for row in found]
        bars = panel.barh(names, [row["seconds"] for row in found], color=[*["#2a9d8f"] * (len(found) - 1), INK])
        panel.bar_label(bars, [f" {row['seconds']:.1f} s" for row in found], color=INK)
        panel.set_title(f"InternImage-{model.upper()} + UPerNet, 512 x 1024", loc="left", color=INK, fontsize=12)
        panel.tick_params(colors=INK, length=0, labelbottom=False)
        panel.spines[:].set_visible(False)
        panel.margins(x=0.12)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)


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
    if rows := [line for line in lines if "step" in line]:
        write_atomically(PICTURE, lambda path: picture(rows, path))


if __name__ == "__main__":
    main()
