"""Submission files: prediction trees to archives for the server, and archives to metrics.

A tree holds ``<base>_pred.png`` (8 bits) and ``<base>_conf.png`` (16 bits) for each image, in the folders of the
benchmark. An archive is a plain tar with one small file for each image (see ``codec``).

    python -m iood_helpers.submission sample   gt.tar samples.tar
    python -m iood_helpers.submission encode   tree/ samples.tar submission.tar
    python -m iood_helpers.submission check    tree/ samples.tar submission.tar
    python -m iood_helpers.submission evaluate gt.tar submission.tar samples.tar [--json results.json]
    python -m iood_helpers.submission inspect  submission.tar
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..checks import class_map
from ..datasets.layouts import BRAVO_LAYOUT
from ..errors import IoodError, SubmissionError
from ..io import write_atomically, write_json
from .accumulator import BravoAccumulator, sample_pixels
from .archives import Members, reading, write_tar
from .codec import checked_pair, decode_prediction, decode_samples, encode_prediction, encode_samples
from .maps import read_map
from .metrics import bravo_aggregates
from .protocol import metrics_of

SAMPLES, ENCODED = "_samples.bin", "_encoded.bin"


def prediction_paths(tree: str | Path, split: str, name: str) -> tuple[Path, Path]:
    """Where the class map and the confidence of an image belong in a tree.

    Parameters
    ----------
    tree : str or Path
        Root of the tree.
    split : str
        Split as for ``load_dataset`` ("mini/synobjs", "bravo/ACDCfog"); one outside the benchmark gets a folder of its
        own name.
    name : str
        ``Sample.name`` of the image.

    Returns
    -------
    (Path, Path)

    Raises
    ------
    SubmissionError
        If the name points outside the tree.
    """
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise SubmissionError(f"The image name {name!r} points outside the tree {tree}; give a name below its split.")
    subset = split.rpartition("/")[2]
    layout = BRAVO_LAYOUT.get(subset)
    base = f"{layout.folder}/{name}{layout.image}" if layout else f"{subset}/{name}"
    return Path(tree) / f"{base}_pred.png", Path(tree) / f"{base}_conf.png"


def write_prediction(tree: str | Path, split: str, name: str, classes: np.ndarray, confidence: np.ndarray) -> None:
    """Write the pair of PNG files of one image.

    Parameters
    ----------
    tree, split, name
        As for :func:`prediction_paths`.
    classes : ndarray of int, shape (H, W)
        Train ids 0..18.
    confidence : ndarray, shape (H, W)
        Floats 0..1, kept in 65 536 levels; or these levels, as integers of 16 bits or more.

    Raises
    ------
    SubmissionError
        If shapes differ, or a value is NaN or out of range; nothing is written then.
    FileError
        If the disk is full or may not be written.
    """
    pair = checked_pair(classes, confidence, f" of {split} {name}")
    for path, array in zip(prediction_paths(tree, split, name), pair, strict=True):
        write_atomically(path, Image.fromarray(array).save)


def read_prediction(tree: str | Path, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a pair: classes (H, W) uint8 and levels (H, W) uint16.

    Raises
    ------
    SubmissionError
        If a file is missing or has another bit depth.
    """
    pair = prediction_paths(tree, split, name)
    for path in pair:
        if not path.is_file():
            raise SubmissionError(f"The prediction {path} is missing; predict {split} again.")
    return _read_pair(*pair)


def _read_pair(pred: Path, conf: Path) -> tuple[np.ndarray, np.ndarray]:
    return read_map(pred.read_bytes(), pred, np.uint8), read_map(conf.read_bytes(), conf, np.uint16)


def sample_ground_truth(gt_tar: str | Path, out_tar: str | Path, *, progress: bool = True) -> Path:
    """Draw the pixels of every image whose confidences the benchmark compares: ``samples.tar`` from ``gt.tar``.

    Raises
    ------
    SubmissionError
        If an archive is damaged or holds no label maps.
    """
    with reading(gt_tar) as members:
        bases = _bases(members)

        def files() -> Iterator[tuple[str, bytes]]:
            for base, subset in tqdm(bases.items(), desc="sample", disable=not progress):
                indices = sample_pixels(_label(members, base + BRAVO_LAYOUT[subset].label))
                if not len(indices):
                    raise SubmissionError(f"The label map of {base} is void everywhere; leave the image out.")
                yield base + SAMPLES, encode_samples(indices)

        return write_tar(out_tar, files())


def encode_submission(
    tree: str | Path,
    samples_tar: str | Path,
    out_tar: str | Path,
    *,
    progress: bool = True,
    spread: Callable[..., Iterable[bytes]] = map,
) -> Path:
    """Pack a tree of predictions for the server.

    Parameters
    ----------
    tree : str or Path
        Folder with ``bravo_ACDC/...`` and so on, a pair of PNG files for each image.
    samples_tar : str or Path
        Sampled pixels of every image, as the benchmark publishes them.
    out_tar : str or Path
        Archive to write; nothing is left behind if anything is wrong.
    progress : bool
        Whether to show a bar.
    spread : callable
        As ``map``; another one may let other processes encode.

    Returns
    -------
    Path
        ``out_tar``.

    Raises
    ------
    SubmissionError
        If images are missing (all of them are named), or a file has another size, bit depth or class.
    """
    tree = _tree(tree)
    with reading(samples_tar) as members:
        bases = _bases(members, SAMPLES)
        pairs = _pairs(tree, bases, samples_tar)

        def files() -> Iterator[tuple[str, bytes]]:
            images = ((base, pair, members(base + SAMPLES)) for base, pair in pairs.items())
            encoded = tqdm(spread(_encoded, images), desc="encode", total=len(pairs), disable=not progress)
            for base, content in zip(pairs, encoded, strict=True):
                yield base + ENCODED, content

        return write_tar(out_tar, files())


def _encoded(image: tuple[str, tuple[Path, Path], bytes]) -> bytes:
    """One encoded file, from the name of its image, its pair of predictions, and its encoded samples."""
    base, (pred, conf), samples = image
    classes, levels = _read_pair(pred, conf)
    indices = decode_samples(samples, base + SAMPLES)
    try:
        return encode_prediction(classes, levels, indices)
    except SubmissionError as error:
        raise SubmissionError(f"{pred}: {error}") from error


def check_submission(tree: str | Path, samples_tar: str | Path, out_tar: str | Path, *, progress: bool = True) -> int:
    """Decode every image of an archive and compare it with the tree that it was packed from.

    Parameters
    ----------
    tree, samples_tar
        As for :func:`encode_submission`.
    out_tar : str or Path
        The archive.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    int
        Images compared.

    Raises
    ------
    SubmissionError
        If an image is missing or one too many, or its classes or the confidence of a sampled pixel differ from the
        tree.
    """
    tree = _tree(tree)
    with reading(samples_tar) as samples, reading(out_tar) as sent:
        bases = _bases(samples, SAMPLES)
        pairs = _pairs(tree, bases, samples_tar)
        if differing := sorted({base + ENCODED for base in bases} ^ set(sent.names)):
            raise SubmissionError(
                f"The archive {out_tar} lacks images or holds others than {samples_tar}; encode the tree again: "
                f"{_listed(differing)}."
            )
        for base, (pred, conf) in tqdm(pairs.items(), desc="check", disable=not progress):
            classes, levels = decode_prediction(sent(base + ENCODED), base + ENCODED)
            indices = decode_samples(samples(base + SAMPLES), base + SAMPLES)
            wanted, confidence = _read_pair(pred, conf)
            same = np.array_equal(classes, wanted) and indices[-1] < confidence.size
            if not same or not np.array_equal(levels, confidence.ravel()[indices]):
                raise SubmissionError(f"{base + ENCODED} in {out_tar} differs from {pred}; encode the tree again.")
    return len(bases)


def evaluate_submission(
    gt_tar: str | Path, out_tar: str | Path, samples_tar: str | Path, *, progress: bool = True
) -> dict[str, Any]:
    """Evaluate an encoded submission as the server does.

    Parameters
    ----------
    gt_tar : str or Path
        Label maps and masks of invalid pixels.
    out_tar : str or Path
        The submission.
    samples_tar : str or Path
        The pixels that it was encoded for.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    dict
        As :func:`.bravo_metrics` gives it for a mapping of subsets.

    Raises
    ------
    SubmissionError
        If images are missing from the submission (all of them are named), or a file is damaged or has another size.
    """
    with reading(gt_tar) as truth, reading(out_tar) as sent, reading(samples_tar) as samples:
        bases = _bases(truth)
        for archive, ending, path in ((sent, ENCODED, out_tar), (samples, SAMPLES, samples_tar)):
            missing = [base + ending for base in bases if base + ending not in archive.names]
            if missing:
                raise SubmissionError(f"The archive {path} lacks {len(missing)} images: {_listed(missing)}.")
        counts = {subset: BravoAccumulator(subset) for subset in BRAVO_LAYOUT if subset in bases.values()}
        for base, subset in tqdm(bases.items(), desc="evaluate", disable=not progress):
            layout = BRAVO_LAYOUT[subset]
            label = _label(truth, base + layout.label)
            invalid = read_map(truth(base + layout.mask), base + layout.mask)
            indices = decode_samples(samples(base + SAMPLES), base + SAMPLES)
            classes, levels = decode_prediction(sent(base + ENCODED), base + ENCODED)
            if classes.shape != label.shape or invalid.shape != label.shape:
                raise SubmissionError(
                    f"{base + ENCODED} has {classes.shape} pixels and the ground truth {label.shape}; "
                    "predict at the size of the image."
                )
            if len(levels) != len(indices) or not np.array_equal(sample_pixels(label), indices):
                raise SubmissionError(f"The samples of {base} do not belong to this ground truth; sample it again.")
            confidence = np.zeros(label.shape, np.uint16)
            confidence.ravel()[indices] = levels
            counts[subset].update(label, invalid, classes, confidence)
    results: dict[str, Any] = {}
    for subset, counted in counts.items():
        row = counted.compute(*metrics_of(subset))
        results |= {f"{subset}_{key}": value for key, value in row.items()}
    return results | bravo_aggregates(results)


def inspect_submission(out_tar: str | Path) -> list[dict[str, Any]]:
    """What an archive holds: name, height, width, samples and mean confidence of each image; every file is checked."""
    rows = []
    with reading(out_tar) as members:
        for name in members.names:
            classes, levels = decode_prediction(members(name), name)
            mean = float(levels.mean()) / 65535 if len(levels) else float("nan")
            rows.append({"name": name, "size": classes.shape, "samples": len(levels), "mean_confidence": mean})
    return rows


def _bases(members: Members, ending: str | None = None) -> dict[str, str]:
    """Name without ending to subset, for the members with this ending, or for the label maps."""
    found = {}
    for name in members.names:
        for subset, layout in BRAVO_LAYOUT.items():
            inside = name.startswith(f"{layout.folder}/") and (layout.part is None or f"/{layout.part}/" in name)
            if inside and name.endswith(ending or layout.label):
                found[name.removesuffix(ending or layout.label)] = subset
    if not found:
        raise SubmissionError(f"The archive {members.path} holds nothing of the benchmark; check which file it is.")
    return found


def _pairs(tree: Path, bases: dict[str, str], samples_tar: str | Path) -> dict[str, tuple[Path, Path]]:
    """Files of classes and confidences of each image; SubmissionError names those that a tree lacks."""
    pairs = {}
    for base, subset in bases.items():
        name = f"{base}{BRAVO_LAYOUT[subset].image}"
        pairs[base] = tree / f"{name}_pred.png", tree / f"{name}_conf.png"
    missing = [str(path.relative_to(tree)) for pair in pairs.values() for path in pair if not path.is_file()]
    if missing:
        raise SubmissionError(
            f"The tree {tree} lacks {len(missing)} files for {samples_tar}; add them: {_listed(missing)}."
        )
    return pairs


def _label(members: Members, name: str) -> np.ndarray:
    """Train ids of one image from an archive."""
    return class_map(read_map(members(name), name), f"The labels {name} of {members.path}", SubmissionError, True)


def _tree(tree: str | Path) -> Path:
    """The folder of a tree; SubmissionError if it is none."""
    if (tree := Path(tree).expanduser()).is_file():
        raise SubmissionError(f"{tree} is a file, where a folder of predictions is wanted; unpack it.")
    if not tree.is_dir():
        raise SubmissionError(f"The folder of predictions {tree} does not exist; check the path.")
    return tree


def _listed(names: list[str]) -> str:
    """All names, or the first fifty of many."""
    return ", ".join(names[:50]) + (f" and {len(names) - 50} more" if len(names) > 50 else "")


_FILES = {
    **{"sample": ("gt", "out"), "encode": ("tree", "samples", "out"), "check": ("tree", "samples", "submission")},
    **{"evaluate": ("gt", "submission", "samples"), "inspect": ("submission",)},
}


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The files that a command of this module is told."""
    for file in _FILES[command]:
        parser.add_argument(file, type=lambda text: Path(text).expanduser())
    if command == "evaluate":
        parser.add_argument("--json", type=Path, help="write all metrics to this file")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m iood_helpers.submission", description=str(__doc__).split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in _FILES:
        add_arguments(commands.add_parser(name), name)
    args = parser.parse_args(arguments)
    try:
        execute(args)
    except IoodError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def execute(args: argparse.Namespace) -> None:
    """Run the command ``args.command``."""
    if args.command == "sample":
        print(sample_ground_truth(args.gt, args.out))
    elif args.command == "encode":
        print(encode_submission(args.tree, args.samples, args.out))
    elif args.command == "check":
        print(f"{check_submission(args.tree, args.samples, args.submission)} images decode to the predictions")
    elif args.command == "inspect":
        for row in inspect_submission(args.submission):
            height, width = row["size"]
            print(f"{row['name']}: {height} x {width}, {row['samples']} samples, mean {row['mean_confidence']:.3f}")
    else:
        results = evaluate_submission(args.gt, args.submission, args.samples)
        if args.json:
            write_json(args.json, results)
        for name, value in results.items():
            if not isinstance(value, list):
                print(f"{name:<32}{value:.4f}")


if __name__ == "__main__":
    sys.exit(main())
