"""Build the book from the executed notebooks in book/notebooks; the exit code is not 0 if anything is missing.

python book/build.py [--run runs/mini] [--book book]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml

BOOK = Path(__file__).resolve().parent


def write_status(book: Path, run: Path) -> None:
    """``status.md`` from the run's record."""
    record = json.loads((run / "run.json").read_text())
    changed = {name: value for name, value in record["parameters"].items() if name != "run_dir"}
    lines = [
        "# Status of this build",
        "",
        "Made by the run whose figures the notebooks show.",
        "",
        "| What | Value |",
        "|---|---|",
        f"| Profile | {record['profile']} |",
        f"| Started | {record['started']} |",
        f"| Commit | {record['commit'] or 'unknown'} |",
        f"| Machine | {record['machine']} |",
        f"| Device | {record['device']} |",
        f"| Python | {record['python']} |",
        *(f"| {name} | {number} |" for name, number in record["versions"].items()),
        "",
        "| Notebook | Seconds | Peak memory (GiB) | Images through the network |",
        "|---|---|---|---|",
        *(
            f"| {name} | {entry['seconds']} | {entry['peak_gib']} | {entry['passes']} |"
            for name, entry in record["notebooks"].items()
        ),
        f"| all | {sum(entry['seconds'] for entry in record['notebooks'].values()):.1f} | | |",
        "",
        "| Parameter | Value |",
        "|---|---|",
        *(f"| {name} | `{json.dumps(value)}` |" for name, value in changed.items()),
    ]
    (book / "status.md").write_text("\n".join(lines) + "\n")


def pages() -> list[str]:
    """Names of all pages in the table of contents."""
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def main() -> int:
    """Build; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=BOOK.parent / "runs" / "mini")
    parser.add_argument("--book", type=Path, default=BOOK, help="folder of the book's sources")
    args = parser.parse_args()
    book = args.book.resolve()
    missing = [name for name in pages() if name.startswith("notebooks/") and not (book / f"{name}.ipynb").is_file()]
    if missing:
        print(f"Not executed yet: {', '.join(missing)}; run python -m iood_helpers.run --book", file=sys.stderr)
        return 1
    write_status(book, args.run)
    jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
    command = [jupyter_book, "build", str(book), "-W", "-n", "--keep-going", "-q"]
    code = subprocess.run(command).returncode
    absent = [name for name in pages() if not (book / "_build" / "html" / f"{name}.html").is_file()]
    if absent:
        print(f"Pages that were not built: {', '.join(absent)}", file=sys.stderr)
    return code or bool(absent)


if __name__ == "__main__":
    sys.exit(main())
