"""Put the results of runs on photographs into the book: tables, date and commit.

make real IOOD_DATA=/folder                     # the runs, into runs/roadanomaly, runs/roadanomaly-town and runs/camvid
python benchmarks/measure_photographs.py        # what these do not show, into runs/roadanomaly/photographs.json
python benchmarks/record_photographs.py         # the tables, into book/photographs.md
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path

from iood_helpers.course.artifacts import read_metrics
from iood_helpers.io import write_atomically

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "photographs.md"
OOD = ("auroc_ood", "auprc_ood", "fpr95_ood")
RULES = ("raw", "published", "calibrated", "fused", "surplus")
KINDS = {"animals": "animals", "cones": "cones", "obstacles": "boulders and other obstacles"}
SEMANTIC = ("auroc_valid", "auprc_error_valid", "fpr95_valid", "ece_valid")
EVERYDAY_SHARE = 0.003
"""Classes that fewer pixels belong to are left out of the table of false alarms."""


def table(header: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def numbers(row: dict, keys: Iterable[str]) -> list[str]:
    """Three digits of each, or a dash."""
    return ["-" if row.get(key) is None else f"{row[key]:.3f}" for key in keys]


def origin(run: Path) -> str:
    """When, from which commit and by which profile a run was made, and how good its network is."""
    record = json.loads((run / "run.json").read_text())
    miou = read_metrics(run, "01_load_checkpoint")["miou"]
    return (
        f"Run of {record['started'][:10]}, commit `{record['commit'][:7]}`, profile `{record['profile']}`; "
        f"mean IoU of the network on its validation split: {miou:.3f}."
    )


def found(run: Path) -> str:
    """Unknown objects: each rule, the distance alone, and the control that knows the predicted class only."""
    metrics = read_metrics(run, "05_refine_confidences")
    rows = [[name, *numbers(metrics, [f"{name}_{k}" for k in (*OOD, "auroc_within_class")])] for name in RULES]
    rows.append(["**distance**", *numbers(metrics, [f"distance_{k}" for k in (*OOD, "auroc_within_class")])])
    rows.append(["*class prior*", *numbers(metrics, [f"class_prior_{k}" for k in OOD]), "0.500"])
    return table(["confidence or score", "AUROC", "AP", "FPR95", "AUROC within class"], rows)


def detectors(run: Path) -> str:
    """All detectors, best first."""
    compared = json.loads((run / "detectors.json").read_text())
    order = sorted(compared["smoothed"], key=lambda name: -compared["smoothed"][name]["ood_hmean"])
    rows = [
        [name, *numbers(compared["smoothed"][name], OOD), *numbers(compared["plain"][name], ["auprc_ood"])]
        for name in order
    ]
    return table(["detector", "AUROC", "AP", "FPR95", "AP plain"], rows)


def audited(run: Path) -> str:
    """What each flaw of the published rule costs."""
    metrics = read_metrics(run, "07_audit_the_published_code")
    names = [key.removesuffix("_auroc_ood") for key in metrics if key.endswith("_auroc_ood")]
    return table(
        ["rule", "AUROC", "AP", "FPR95"],
        [[name.replace("_", " "), *numbers(metrics, [f"{name}_{k}" for k in OOD])] for name in names],
    )


def semantic(runs: dict[str, Path], subsets: dict[str, str]) -> str:
    """How well right and wrong classes are told apart before and after, for each calibration and split."""
    rows = []
    for number, (calibrated, run) in enumerate(runs.items()):
        refined = json.loads((run / "refined.json").read_text())
        for subset, words in subsets.items():
            for name in ("raw", "surplus") if number == 0 else ("surplus",):
                row = refined[name]
                label = "as it is" if name == "raw" else f"surplus, calibrated on {calibrated}"
                rows.append([words, label, *numbers(row, [f"{subset}_{key}" for key in SEMANTIC])])
    header = ["images", "confidence", "AUROC right/wrong", "AUPR error", "FPR95", "ECE"]
    return table(header, sorted(rows, key=lambda row: row[0]))


def by_kind(measured: dict) -> str:
    """Each kind of object on its own."""
    rows = []
    for kind, words in KINDS.items():
        row = measured["kinds"].get(kind)
        for score in ("raw", "distance", "surplus") if row else ():
            values = numbers(row[score], (*OOD, "auroc_within_class"))
            rows.append([f"{words} ({row['images']} images)", score, *values])
    return table(["objects", "score", "AUROC", "AP", "FPR95", "AUROC within class"], rows)


def false_alarms(measured: dict) -> str:
    """Shares of ordinary pixels beyond the threshold that finds 80 % of the unknown ones; then by predicted class."""
    scores = ("raw", "distance", "surplus")
    one = {"cityscapes/val": "cityscapes/val (1 image)"}
    whole = [
        [one.get(split, split), *(f"{100 * row[s]:.1f} %" for s in scores)] for split, row in measured["false"].items()
    ]
    classes = [
        [name, f"{100 * row['share']:.1f} %", *(f"{100 * row[s]:.0f} %" for s in scores[1:])]
        for name, row in sorted(measured["classes"]["labelmefacade/all"].items(), key=lambda item: -item[1]["share"])
        if row["share"] > EVERYDAY_SHARE
    ]
    header = ["predicted class", "share of the pixels", "distance", "surplus"]
    return table(["photographs", *scores], whole) + "\n\n" + table(header, classes)


def own_town(measured: dict) -> str:
    """False alarms with a threshold from n images of the town."""
    rows = [
        [n, *(f"{100 * middle:.1f} % ({100 * low:.1f} to {100 * high:.1f})" for low, middle, high in row)]
        for n, row in measured["town"]["curve"].items()
    ]
    return table(["images of one's own town", "where 1 % is asked for", "where 5 % is asked for"], rows)


def sections(runs: dict[str, Path]) -> dict[str, str]:
    """Markdown of each marked part of the page."""
    main, town, camvid = runs["roadanomaly"], runs["roadanomaly-town"], runs["camvid"]
    measured = json.loads((main / "photographs.json").read_text())
    subsets = {"test": "CamVid test", "val": "Cityscapes val (1 image)"}  # the data root of this page holds one
    return {
        "found": f"{origin(main)}\n\n{found(main)}",
        "kinds": by_kind(measured),
        "detectors": detectors(main),
        "audit": audited(main),
        "semantic": semantic({"Cityscapes": main, "CamVid": town}, subsets),
        "town-found": found(town),
        "false": false_alarms(measured),
        "town": own_town(measured),
        "camvid": f"{origin(camvid)}\n\n{found(camvid)}\n\n{detectors(camvid)}",
    }


def fill(page: str, parts: dict[str, str]) -> str:
    """The page with the text between ``<!-- NAME -->`` and ``<!-- end -->`` replaced."""
    for name, text in parts.items():
        marks = re.compile(rf"(?s)(<!-- {name} -->\n).*?(<!-- end -->)")
        page = marks.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the three runs")
    args = parser.parse_args()
    runs = {name: args.runs / name for name in ("roadanomaly", "roadanomaly-town", "camvid")}
    page = fill(PAGE.read_text(), sections(runs))
    write_atomically(PAGE, lambda path: path.write_text(page))


if __name__ == "__main__":
    main()
