"""What of a data set is there, what is missing or damaged, and how many pixels of what it holds."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import DatasetError
from .labels import CLASS_NAMES, VOID
from .loading import DATASETS, TREES, VIRTUAL, data_root, parse_name, part_of, tree_of
from .samples import Sample
from .trees import find

SHOWN = 5
"""Missing or damaged files that are named; of the others only the number is told."""


@dataclass
class Report:
    """One split of a data set.

    Attributes
    ----------
    name : str
        ``dataset/split``.
    complete : int
        Images that have all files they should have.
    tried, usable : int
        Those of them whose files were opened, and whose files could be read.
    sizes : Counter
        Usable images by (height, width).
    pixels : Counter
        Their pixels: names of classes (or "in-distribution" where there is no label map), "anomaly" and "void". An
        anomaly counts as such and not as its class.
    labels, masks : int
        How many of them have a label map and a mask.
    faults : list of str
        What is missing or damaged, a sentence each.
    """

    name: str
    complete: int = 0
    tried: int = 0
    usable: int = 0
    sizes: Counter = field(default_factory=Counter)
    pixels: Counter = field(default_factory=Counter)
    labels: int = 0
    masks: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = [f"  {fault}" for fault in self.faults[:SHOWN]]
        if len(self.faults) > SHOWN:
            faults.append(f"  and {len(self.faults) - SHOWN} more missing or damaged")
        if not self.usable:
            return "\n".join([f"{self.name}: nothing usable", *faults])
        sizes = ", ".join(f"{columns} x {rows}" for (rows, columns), _ in self.sizes.most_common(3))
        sizes += f" and {len(self.sizes) - 3} more sizes" if len(self.sizes) > 3 else ""
        total = self.pixels.total()
        there = [(what, count) for what, count in self.pixels.most_common() if count]
        absent = [what for what, count in self.pixels.items() if not count]
        lines = [
            f"{self.name}: {self.complete} images with all files; of {self.tried} read, {self.usable} good ({sizes})",
            f"  label maps: {self.labels or 'none'}; masks: {self.masks or 'none'}",
            f"  {total / 1e6:.1f} million pixels: {', '.join(f'{what} {n / total:.2%}' for what, n in there)}",
        ]
        if absent:
            lines.append(f"  no pixel of: {', '.join(absent)}")
        return "\n".join(lines + faults)


def check(name: str, root: str | Path | None = None, limit: int | None = None) -> Iterator[Report]:
    """Read the files of a data set, split by split.

    Parameters
    ----------
    name : str
        A key of ``DATASETS``, or one split of it as in ``"cityscapes/val"``.
    root : path, optional
        The folder that holds the data set's folder, or that folder itself; default as for ``load_dataset``.
    limit : int, optional
        Read only so many images of each split; what is missing is told for all.

    Yields
    ------
    Report
        For each split that names files of its own, or for the one that is asked for; a part such as ``train-fit``
        counts its own images, and names what is missing in all of ``train``.

    Raises
    ------
    DatasetError
        If there is no such data set or split.
    """
    if "/" in name or not DATASETS.get(name):
        name, *splits = parse_name(name)
    else:
        splits = list(TREES[name])
    for split in splits:
        report = Report(f"{name}/{split}")
        folder = "train" if split in VIRTUAL else split
        try:
            found = find(tree_of(name, folder), folder, data_root(name, root))
        except DatasetError as error:
            report.faults.append(str(error))
            yield report
            continue
        samples = part_of(split, found.samples)
        report.complete = len(samples)
        report.faults += map(str, found.missing)
        if not samples and not found.missing:
            report.faults.append("No image is there; complete the download.")
        for sample in tqdm(samples[:limit], report.name, leave=False, disable=None):
            report.tried += 1
            try:
                _count(report, sample)
            except DatasetError as error:
                report.faults.append(str(error))
        yield report


def _count(report: Report, sample: Sample) -> None:
    size = sample.image().shape[:2]
    label = sample.label()
    pixels: Counter = Counter()
    void, anomaly = sample.void(), sample.invalid()
    if label is None:
        label = np.zeros(size, np.uint8)
        pixels["in-distribution"] = int((~void & ~anomaly).sum())
    else:
        void |= (label == VOID) & ~anomaly
        counts = np.bincount(label[~void & ~anomaly], minlength=len(CLASS_NAMES))
        pixels.update(dict(zip(CLASS_NAMES, map(int, counts), strict=True)))
        report.labels += 1
    if sample.invalid_path is not None:
        pixels["anomaly"] = int(anomaly.sum())
        report.masks += 1
    pixels["void"] = int(void.sum())
    report.usable += 1
    report.sizes[size] += 1
    report.pixels.update(pixels)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("name", help=f"{', '.join(DATASETS)}; or one split, as in cityscapes/val")
    parser.add_argument("path", help="the folder that holds the data set's folder, or that folder itself")
    parser.add_argument("--limit", type=int, help="read only so many images of each split")


def execute(args: argparse.Namespace) -> int:
    """Print the report; returns the exit code: 1 if nothing can be used."""
    usable = 0
    for report in check(args.name, args.path, args.limit):
        print(report)
        usable += report.usable
    return 0 if usable else 1


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 1 if nothing can be used."""
    parser = argparse.ArgumentParser(prog="python -m iood_helpers.datasets", description=__doc__)
    add_arguments(
        parser.add_subparsers(required=True).add_parser("check", help="read a data set and tell what it holds")
    )
    args = parser.parse_args(arguments)
    try:
        return execute(args)
    except DatasetError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
