"""What a store was made of (``images.json``), with what, and how far it is (``progress.json``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DatasetError, EmbeddingError, FileError
from ..io import exclusive, plain, write_json
from .columns import PROJECTED
from .embedder import MAX_DIM
from .levels import level_of

if TYPE_CHECKING:
    from ..datasets.loading import Dataset

FORMAT = 2


def is_column(level: Any) -> bool:
    """Whether a store can have vectors under this name."""
    return level == PROJECTED or level_of(level) is not None


def fingerprint(dataset: Dataset) -> list[dict[str, Any]]:
    """What a data set holds: name of each image, SHA-256 of its file and of its label's, and what the ids mean.

    Whole files are read, which costs little beside a forward pass; places do not count, so copies are equal.
    """
    samples = (dataset[index] for index in range(len(dataset)))
    return [
        {
            "name": sample.name,
            "image": _sha256(getattr(sample, "image_path", None)),
            "label": _sha256(getattr(sample, "label_path", None)),
            "encoding": getattr(sample, "encoding", None),
        }
        for sample in samples
    ]


def _sha256(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"The file {path} cannot be read ({error.strerror}); restore it.") from error


def digest(content: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True).encode()).hexdigest()


def claim(path: Path) -> AbstractContextManager[None]:
    """The lock of a folder that is (to be) a store."""
    try:
        if path.is_dir():
            ours = {".lock", *(temporary.name for temporary in path.glob(".progress.*.tmp.json"))}
            others = sorted(item.name for item in path.iterdir() if item.name not in ours)
            # looked for last: a store that comes into being meanwhile has it first
            if others and not (path / "progress.json").is_file():
                raise EmbeddingError(
                    f"The folder {path} holds {others[0]} and is no embedding store; choose another or an empty folder."
                )
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"The folder {path} cannot be made ({error.strerror}); choose another place.") from error
    return exclusive(path / ".lock", f"The store {path}")


def write_progress(path: Path, progress: dict[str, Any]) -> dict[str, Any]:
    """Write ``progress.json`` with a checksum of its own; gives back the progress."""
    write_json(path / "progress.json", {**progress, "sha256": digest(progress)})
    return progress


def read_progress(path: Path) -> dict[str, Any]:
    """Content of ``progress.json``, of which every value has been checked."""
    file = path / "progress.json"
    try:
        progress = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(progress, dict) and progress.get("format") != FORMAT:
            raise EmbeddingError(
                f"The store {path} has format {progress.get('format')} instead of {FORMAT}; delete it and extract anew."
            )
        if progress.pop("sha256") != digest(progress):
            raise ValueError("progress.json has changed since it was written")
        _check_progress(progress)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EmbeddingError(
            f"There is no readable embedding store at {path} ({error}); delete the store and extract anew."
        ) from error
    return progress


def _check_progress(progress: dict[str, Any]) -> None:
    parameters, levels, names, counts, rows, complete, sums = (
        progress[key] for key in ("parameters", "levels", "names", "counts", "rows", "complete", "sums")
    )
    if not isinstance(parameters, dict) or parameters.get("per", "label") not in ("label", "predicted"):
        raise ValueError("parameters are no parameters of a store")
    if not levels or not all(is_column(level) and _is_count(width) and 0 < width <= MAX_DIM for level, width in levels):
        raise ValueError("levels are not those of a store")
    if len(dict(levels)) != len(levels):
        raise ValueError("a level is there twice")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("names are no list of names")
    if not isinstance(counts, list) or not all(map(_is_count, counts)) or len(counts) != len(names):
        raise ValueError("counts do not fit the names")
    if not _is_count(rows) or rows != sum(counts):
        raise ValueError(f"{rows} rows are not the sum of the counts")
    if not isinstance(complete, bool) or (complete and parameters.get("images", len(names)) != len(names)):
        raise ValueError("images are missing")
    if not isinstance(sums, dict) or not isinstance(progress["images_sha256"], str):
        raise ValueError("checksums are missing")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def new_progress(
    path: Path, widths: Mapping[str, int], parameters: Mapping[str, Any], images: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    """Content of the ``progress.json`` of a new store: the first of all its files, which tells that it is one."""
    known = {"format": FORMAT, "parameters": plain(parameters), "levels": [list(item) for item in widths.items()]}
    empty = {"names": [], "counts": [], "rows": 0, "sums": {}, "complete": False}
    return write_progress(path, {**known, "images_sha256": digest(images), **empty})


def known_progress(
    path: Path, parameters: Mapping[str, Any], images: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any] | None:
    """As :func:`read_progress`, None if there is none; EmbeddingError if it is of other parameters or images."""
    if not (path / "progress.json").is_file():
        return None
    progress, parameters = read_progress(path), plain(parameters)
    have = progress["parameters"]
    other = [k for k in sorted({*have, *parameters}) if have.get(k) != parameters.get(k)]
    if other:
        details = ", ".join(f"{k}: {have.get(k)} instead of {parameters.get(k)}" for k in other)
        raise EmbeddingError(
            f"The store {path} was made with other parameters ({details}); delete it or choose another folder."
        )
    if progress["images_sha256"] != digest(images):
        raise EmbeddingError(
            f"The store {path} was made of other images ({_differing(path, images)}); "
            "delete it or choose another folder."
        )
    return progress


def _differing(path: Path, images: Sequence[Mapping[str, Any]] | None) -> str:
    """First things that differ, in words."""
    try:
        had = {image["name"]: image for image in json.loads((path / "images.json").read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError):
        return "its images.json is missing or damaged"
    now = {image["name"]: image for image in images or ()}
    words = [f"{name} is new" for name in now if name not in had]
    words += [f"{name} is gone" for name in had if name not in now]
    words += [f"{name} has changed" for name in now if name in had and now[name] != had[name]]
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "") or "another order"
