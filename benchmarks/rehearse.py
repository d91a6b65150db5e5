"""The profile for the real data at full size, on a rehearsal tree and random weights: seconds, memory and disk.

    python benchmarks/rehearse.py --size xl --train 6 --images 2

Numbers that come out mean nothing (the weights are random); time and memory are those that the real files will take.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def made(script: str, *arguments: object) -> None:
    """Run one of the builders in ``tests/support/``."""
    subprocess.run([sys.executable, str(ROOT / "tests" / "support" / f"{script}.py"), *map(str, arguments)], check=True)


def table(folder: Path) -> str:
    """The run's record, a line for each notebook, and the disk that the run folder takes."""
    entries = json.loads((folder / "run.json").read_text())["notebooks"]
    lines = ["| Notebook | Seconds | Peak memory, GiB | Images through the network |", "|---|---|---|---|"]
    for name, entry in entries.items():
        lines.append(f"| {name} | {entry['seconds']:.0f} | {entry['peak_gib']:.1f} | {entry['passes']} |")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return "\n".join([*lines, "", f"Run folder: {size / 1e9:.2f} GB"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="xl", help="size of the network")
    parser.add_argument("--train", type=int, default=6, help="training images")
    parser.add_argument("--images", type=int, default=2, help="images per BRAVO subset")
    parser.add_argument("--scale", type=float, default=1.0, help="sides relative to the official ones")
    parser.add_argument("--labels", action="store_true", help="with BRAVO labels")
    parser.add_argument("--out", type=Path, help="folder to work in, kept; default: a temporary one")
    parser.add_argument("--set", action="append", default=[], help="as for iood_helpers.run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.out or Path(scratch)
        if not (work / "tree").is_dir():
            shape = ("--train", args.train, "--images", args.images, "--scale", args.scale)
            made("rehearsal", work / "tree", *shape, *(["--labels"] if args.labels else []))
        if not (work / "weights.pth").is_file():
            made("synthetic_checkpoint", args.size, work / "weights.pth")
        changes = [f"checkpoint={work / 'weights.pth'}", f"data_root={work / 'tree'}", *args.set]
        command = [sys.executable, "-m", "iood_helpers.run", "--profile", "cityscapes_bravo"]
        command += ["--run-dir", str(work / "run"), *(part for change in changes for part in ("--set", change))]
        code = subprocess.run(command, cwd=ROOT).returncode
        print(table(work / "run"))
    return code


if __name__ == "__main__":
    sys.exit(main())
