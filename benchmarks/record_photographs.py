"""Put the results of a run on photographs into the book: tables, date and commit.

make real IOOD_DATA=/folder/that/holds/camvid      # the run, into runs/camvid
python benchmarks/record_photographs.py            # its tables, into book/photographs.md
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from iood_helpers.course.artifacts import read_metrics
from iood_helpers.io import write_atomically

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "photographs.md"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(run: Path) -> str:
    """Markdown of all tables of a run."""
    record = json.loads((run / "run.json").read_text())
    model = read_metrics(run, "01_load_checkpoint")
    refined = read_metrics(run, "05_refine_confidences")
    compared = json.loads((run / "detectors.json").read_text())
    keys = ("auroc_ood", "auprc_ood", "fpr95_ood")
    methods = ("raw", "published", "calibrated", "fused")
    found = [[m, *(f"{refined[f'{m}_{k}']:.3f}" for k in keys), f"{refined[f'{m}_ece']:.3f}"] for m in methods]
    order = sorted(compared["smoothed"], key=lambda name: -compared["smoothed"][name]["ood_hmean"])
    scores = [
        [name, *(f"{compared['smoothed'][name][k]:.3f}" for k in keys), f"{compared['plain'][name]['auprc_ood']:.3f}"]
        for name in order
    ]
    return "\n\n".join(
        [
            f"Run of {record['started'][:10]}, commit `{record['commit'][:7]}`, profile `{record['profile']}`; "
            f"mean IoU of the network on its validation split: {model['miou']:.3f}.",
            "**Refinements**",
            table(["confidence", "AUROC", "AUPRC", "FPR95", "ECE on CamVid test"], found),
            "**Detectors**, averaged over neighbours, best first",
            table(["detector", "AUROC", "AUPRC", "FPR95", "AUPRC plain"], scores),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "camvid")
    args = parser.parse_args()
    text = report(args.run)
    marks = re.compile(r"(?s)(<!-- tables -->\n).*?(<!-- end -->)")
    page = marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text())
    write_atomically(PAGE, lambda path: path.write_text(page))


if __name__ == "__main__":
    main()
