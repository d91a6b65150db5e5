"""``iood fit``: learn what is normal from a folder of one's own pictures, without labels.

Classes are those that the network predicts. The last quarter of the pictures, by name, is held out and says how far
is far: neighbouring frames of a drive are nearly the same, so a part at random would hold nothing new.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..datasets.labels import CLASS_NAMES, NUM_CLASSES
from ..datasets.samples import Dataset
from ..errors import DatasetError
from ..io import exclusive
from ..method.embedder import PixelEmbedder
from ..method.kmeans import MIN_CALIBRATION
from ..method.levels import level_of
from ..method.store import EmbeddingStore, extract_embeddings
from ..model.segmenter import Segmenter
from . import pipeline as method
from .options import add_network, positive
from .sources import MAX_SIDE, Picture, pictures

HELD_OUT = 4
"""One of so many pictures is held out to calibrate on."""
PIXELS_PER_CLUSTER = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("folder", type=Path, help="pictures that show what is normal, and nothing else")
    add_network(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("statistics.safetensors"), metavar="FILE", help="file to write"
    )
    parser.add_argument("--levels", default="0,2,decoder", help="maps that vectors are made of, with commas")
    parser.add_argument("--clusters", type=positive, default=30, help="centres per class")
    parser.add_argument("--shared", type=positive, default=1000, help="centres that all classes share")
    parser.add_argument("--pixels", type=positive, default=2000, help="pixels per class to fit on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-side", type=positive, default=MAX_SIDE, help="make larger pictures so small first")
    parser.add_argument("--stop", action="store_true", help="stop at the first picture that cannot be read")


def execute(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code: 1 if a picture could not be read."""
    out, folder = args.out.expanduser(), args.folder.expanduser()
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}; give one that holds pictures of what is normal.")
    found = pictures(folder, args.max_side)
    chosen = readable(found, stop=args.stop)
    if len(chosen) < 2:
        raise DatasetError(f"The folder {folder} holds {len(chosen)} readable pictures; 2 is the least, 50 do better.")
    segmenter = method.load_network(args.model, args.device, args.precision)
    work = out.with_name(f"{out.name}.part")
    work.mkdir(parents=True, exist_ok=True)
    with exclusive(work / ".lock", f"The folder {work}"):
        stores = extract(segmenter, chosen, levels_of(args.levels), work, n_per_class=args.pixels, seed=args.seed)
        print("fitting clusters ...", file=sys.stderr)
        statistics = method.learn(
            *stores,
            segmenter,
            chosen[fitted_on(chosen) :],
            n_per_class=args.pixels,
            n_clusters=args.clusters,
            n_shared=args.shared,
            seed=args.seed,
            about={"model": args.model, "pictures": len(chosen)} | method.network(segmenter),
        )
        report(*stores, args.pixels, args.clusters)
        statistics.save(out)
        shutil.rmtree(work)
    print(f"{out} holds what is normal in {len(chosen)} pictures; use it with iood predict --kmeans {out}")
    return 1 if len(chosen) < len(found) else 0


def levels_of(text: str) -> list[int | str]:
    """Levels in a text; what is none is left as it is, for the embedder to name."""
    words = [word.strip() for word in text.split(",")]
    return [word if level_of(word) is None else level_of(word) for word in words]  # type: ignore[misc]


def readable(found: list[Picture], *, stop: bool) -> list[Picture]:
    """Pictures that can be read; the others are told, or end it."""
    chosen = []
    for picture in tqdm(found, "read", disable=None):
        try:
            picture.image()
        except DatasetError as error:
            if stop:
                raise
            tqdm.write(f"skipped: {error}", file=sys.stderr)
        else:
            chosen.append(picture)
    return chosen


def extract(
    segmenter: Segmenter,
    chosen: list[Picture],
    levels: list[int | str],
    work: Path,
    *,
    n_per_class: int,
    seed: int,
) -> tuple[EmbeddingStore, EmbeddingStore]:
    """Pixels to fit on, and pixels of held-out pictures; what an interrupted run left of them is used."""
    number = fitted_on(chosen)
    split = {"fit": chosen[:number], "calibration": chosen[number:]}
    stores = [
        extract_embeddings(
            segmenter,
            Dataset(f"pictures of at most {chosen[0].max_side} pixels", part, work, some),
            PixelEmbedder(levels),
            work / f"{part}.zarr",
            n_per_class=n_per_class,
            seed=seed,
            progress=sys.stderr.isatty(),
        )
        for part, some in split.items()
    ]
    return stores[0], stores[1]


def fitted_on(chosen: list[Picture]) -> int:
    """How many of the pictures, from the first on, clusters are fitted on; the others are held out."""
    return len(chosen) - max(1, len(chosen) // HELD_OUT)


def report(fit: EmbeddingStore, calibration: EmbeddingStore, n_per_class: int, n_clusters: int) -> None:
    """Say how many pixels of which class there were, and for which of them these are few."""
    labels = [store.load(levels=store.levels[:1]).label for store in (fit, calibration)]
    counts = [np.minimum(np.bincount(label, minlength=NUM_CLASSES), n_per_class) for label in labels]
    print(f"{'class':<16}{'pixels to fit on':>18}{'to calibrate on':>18}")
    for name, fitted, held_out in zip(CLASS_NAMES, *counts, strict=True):
        print(f"{name:<16}{fitted:>18}{held_out:>18}")
    enough = n_clusters * PIXELS_PER_CLUSTER
    rows = list(zip(CLASS_NAMES, *counts, strict=True))
    few = ", ".join(name for name, n, _ in rows if n < enough)
    loose = ", ".join(name for name, n, held_out in rows if n >= enough and held_out < MIN_CALIBRATION)
    if few:
        print(f"warning: few or no pixels, so few or no centres, for: {few}", file=sys.stderr)
    if loose:
        print(f"warning: few held-out pixels, so measured by the distances of all classes: {loose}", file=sys.stderr)
