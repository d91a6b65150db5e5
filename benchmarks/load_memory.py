"""Memory that loading a checkpoint of a full-size network takes at most: random weights, a process for each file.

    python benchmarks/load_memory.py --size xl

Counted is resident memory beyond what the process has with a small network loaded. Pages of a mapped file (safetensors)
count as often as they are mapped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHILD = """
import sys, time
from measuring import peak_memory
from iood_helpers import load_segmenter
load_segmenter("nano")
loaded = []
began = time.perf_counter()
peak = peak_memory(lambda: loaded.append(load_segmenter(sys.argv[1])))
print(peak, time.perf_counter() - began)
"""


def measure(path: Path) -> tuple[int, float]:
    """Bytes and seconds that loading a file takes in a process of its own."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    return int(out[-2]), float(out[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--size", default="xl", help="size of the network")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
    from synthetic_checkpoint import write_official_checkpoint

    from iood_helpers.model.conversion import convert_checkpoint

    print("| File | Bytes, GB | Peak, GB | Peak / float32 weights | Peak / file | Seconds |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        full, half = Path(folder) / "float32.pth", Path(folder) / "float16.pth"
        write_official_checkpoint(full, args.size, half=False, rows=19, foreign=False)
        weights = full.stat().st_size
        write_official_checkpoint(half, args.size, half=True, rows=19, foreign=False)
        converted = half.with_suffix(".safetensors")
        convert_checkpoint(half, converted)
        whole = full.with_suffix(".safetensors")
        convert_checkpoint(full, whole)
        for path in (full, half, whole, converted):
            peak, seconds = measure(path)
            size = path.stat().st_size
            numbers = f"{size / 1e9:.2f} | {peak / 1e9:.2f} | {peak / weights:.2f} | {peak / size:.2f} | {seconds:.1f}"
            print(f"| {path.name} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
