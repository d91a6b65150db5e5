"""``iood predict``: class map, confidence and novelty of each picture, and one page to look at.

What a picture gives is written before the next is looked at, and ``predictions.jsonl`` says which are done: an
interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..datasets.labels import CLASS_NAMES, NUM_CLASSES
from ..errors import DatasetError, FileError, ParameterError
from ..io import exclusive, write_atomically
from . import pipeline as method
from .images import paths, write_maps
from .options import add_network, positive
from .page import write_page
from .sources import MAX_SIDE, Item, Source, open_source

RECORD = "predictions.jsonl"
SECONDS_BETWEEN_PAGES = 20
"""The page is written anew while pictures come in, so that a long drive can be looked at."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("source", help="a folder of pictures, a picture, a video, or camera:0")
    add_network(parser)
    parser.add_argument(
        "--kmeans",
        default=method.DEFAULT,
        metavar="FILE",
        help="statistics of what is normal, made by iood fit; DEFAULT: those that ship with the network",
    )
    parser.add_argument("--out", type=Path, default=Path("iood-predictions"), metavar="DIR", help="folder for the maps")
    parser.add_argument("--max-side", type=positive, default=MAX_SIDE, help="make larger pictures so small first")
    parser.add_argument("--every", type=positive, default=1, help="of a video, one of so many frames")
    parser.add_argument("--limit", type=positive, help="no more pictures or frames than these")
    parser.add_argument("--stop", action="store_true", help="stop at the first picture that cannot be read")


def execute(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code: 1 if a picture could not be read."""
    folder = args.out.expanduser()
    source = open_source(args.source, max_side=args.max_side, every=args.every, limit=args.limit, apart=folder)
    pipeline = method.Pipeline.load(args.model, args.kmeans, device=args.device, precision=args.precision)
    settings = {**method.fingerprint(pipeline), "max_side": args.max_side}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"The folder {folder} cannot be made ({error.strerror}); choose another.") from error
    with exclusive(folder / ".lock", f"The folder {folder}"):
        record = Record(folder, settings)
        try:
            faults = predict(pipeline, source, record, stop=args.stop)
        finally:  # after Ctrl-C, too: a camera knows no other end
            if record.done:
                page = write_page(folder, list(record.done.values()))
    if record.done:
        print(f"Maps of {len(record.done)} picture{'s'[: len(record.done) > 1]} are in {folder}; look at {page}")
    return 1 if faults or not record.done else 0


class Record:
    """What a folder of predictions holds, a line for each picture, and the settings that all of it was made with.

    Raises
    ------
    ParameterError
        If it was made with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.done = folder, {}
        lines = self._read()
        if lines and lines[0] != settings:
            other = [name for name in settings if lines[0].get(name) != settings[name]]
            raise ParameterError(
                f"The folder {folder} holds maps made with another {', '.join(other)}; choose another --out, or "
                "delete it."
            )
        for line in lines[1:]:
            if all(path.is_file() for path in paths(folder, line["name"]).values()):
                self.done[line["name"]] = line
        whole = [json.dumps(line) + "\n" for line in (settings, *self.done.values())]
        write_atomically(folder / RECORD, lambda path: path.write_text("".join(whole), encoding="utf-8"))

    def _read(self) -> list[dict[str, Any]]:
        """Lines of the file, but for what a process that was killed left of the last one."""
        try:
            text = (self.folder / RECORD).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        lines = text.split("\n")[:-1]
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise FileError(f"The file {self.folder / RECORD} is damaged; delete it to begin anew.") from error

    def add(self, line: dict[str, Any]) -> None:
        """Count a picture whose files are written."""
        self.done[line["name"]] = line
        with (self.folder / RECORD).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def predict(pipeline: method.Pipeline, source: Source, record: Record, *, stop: bool = False) -> list[str]:
    """Look at all that a source gives and is not done yet.

    Parameters
    ----------
    pipeline : Pipeline
        What looks.
    source : Source
        What is looked at.
    record : Record
        Where maps go, and which are there.
    stop : bool, default=False
        Whether a picture that cannot be read is the end; otherwise it is told and passed over.

    Returns
    -------
    list of str
        What was wrong with pictures that were passed over.

    Raises
    ------
    DatasetError
        With ``stop``, if a picture cannot be read.
    FileError
        If a file cannot be written.
    """
    faults: list[str] = []
    next_page = time.monotonic() + SECONDS_BETWEEN_PAGES
    with tqdm(source.items, "predict", total=source.number, disable=None) as bar:
        items = iter(bar)
        while True:
            try:
                item = next(items, None)
                if item is None:
                    return faults
                if record.done.get(item.name, {}).get("key") != item.key:
                    record.add(_predict_one(pipeline, item, record.folder))
                    if time.monotonic() >= next_page:
                        write_page(record.folder, list(record.done.values()))
                        next_page = time.monotonic() + SECONDS_BETWEEN_PAGES
            except DatasetError as error:
                if stop:
                    raise
                faults.append(str(error))
                tqdm.write(f"skipped: {error}", file=sys.stderr)


def _predict_one(pipeline: method.Pipeline, item: Item, folder: Path) -> dict[str, Any]:
    """Line of the record of a picture whose maps have been written."""
    picture = item.read()
    look = pipeline.look(picture)
    write_maps(folder, item.name, picture, look)
    shares = np.bincount(look.classes.ravel(), minlength=NUM_CLASSES) / look.classes.size
    return {
        "name": item.name,
        "key": item.key,
        "size": list(look.classes.shape),
        "unknown": round(float(look.unknown.mean()), 6),
        "confidence": round(float(look.confidence.mean()), 6),
        "classes": {CLASS_NAMES[c]: round(float(shares[c]), 6) for c in np.flatnonzero(shares)},
    }
