"""Embeddings on disk: columns that grow image by image, survive an interruption, and know what they were made of.

Rows count only once ``progress.json`` says so. It is renamed into place after the rows of an image are written, so a
process that dies leaves at most rows that nobody counts: readers pass over them, the next writer puts its own there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm.auto import tqdm

from .classes import NUM_CLASSES, VOID
from .columns import PROJECTED, ROW_COLUMNS, Columns, column_of
from .embeddings import ALL_LEVELS, Level, PixelEmbedder, grid_pixels
from .errors import DatasetError, EmbeddingError, FileError
from .files import plain, write_json
from .locks import exclusive

if TYPE_CHECKING:
    from .datasets import Dataset
    from .segmenter import Segmenter

FORMAT = 2


@dataclass(frozen=True)
class Embeddings:
    """Rows of a store in memory.

    Attributes
    ----------
    embeddings
        (n, D) float32: the vectors of the levels asked for, side by side.
    label, predicted
        True and predicted train id, (n,) uint8.
    image
        Index into ``EmbeddingStore.names``, (n,) int32.
    pixel
        Row and column in the image, (n, 2) int32.
    confidence
        Maximum soft-max probability, (n,) float32.
    """

    embeddings: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    image: np.ndarray
    pixel: np.ndarray
    confidence: np.ndarray


class EmbeddingStore:
    """Pixel embeddings, one array per level; made by :meth:`create`, reopened for reading by :meth:`open`.

    A store from :meth:`create` is locked against other writers until :meth:`finish` or :meth:`close` is called or the
    block ``with EmbeddingStore.create(...) as store`` ends. Stores from :meth:`open` change nothing.
    """

    def __init__(self, path: Path, progress: dict[str, Any], columns: Columns, lock: ExitStack | None = None) -> None:
        self.path = path
        self._progress = progress
        self._columns = columns
        self._lock = lock

    @classmethod
    def create(
        cls,
        path: str | Path,
        dim: int | Mapping[Level, int],
        parameters: Mapping[str, Any],
        images: Sequence[Mapping[str, Any]] | None = None,
    ) -> EmbeddingStore:
        """New empty store, or the existing one if it was made with the same parameters.

        Parameters
        ----------
        path
            Its folder; missing, empty, or a store.
        dim
            Numbers per vector, or those of each level in order.
        parameters
            What the store is made with: plain values.
        images
            What the store is made of, as :func:`fingerprint` gives it.

        Raises
        ------
        EmbeddingError
            If a store with other parameters or of other images is there (the message names them), or something that
            is no store.
        LockedError
            If another process writes to it.
        FileError
            If the folder cannot be written.
        """
        path = Path(path)
        widths = {str(k): int(v) for k, v in (dim.items() if isinstance(dim, Mapping) else [(PROJECTED, dim)])}
        lock = _claim(path)
        try:
            store = cls._resume(path, parameters, images, lock)
            if store is None:
                store = cls._new(path, widths, parameters, images, lock)
            if store._widths != widths:
                raise EmbeddingError(
                    f"The store {path} has vectors of {store._widths} instead of {widths}; "
                    "delete it or choose another folder."
                )
        except BaseException:
            lock.close()
            raise
        return store

    @classmethod
    def _new(cls, path: Path, widths: dict[str, int], parameters, images, lock: ExitStack) -> EmbeddingStore:
        progress = {
            "format": FORMAT,
            "parameters": plain(parameters),
            "levels": [list(item) for item in widths.items()],
            "images_sha256": _digest(images),
            "names": [],
            "counts": [],
            "rows": 0,
            "complete": False,
        }
        # First of all files: it tells that the folder is the store's own.
        write_json(path / "progress.json", progress)
        return cls._resume(path, parameters, images, lock)

    @classmethod
    def _resume(cls, path: Path, parameters, images, lock: ExitStack) -> EmbeddingStore | None:
        """Store to be written on, None if there is none; one that is complete comes for reading."""
        if not (path / "progress.json").is_file():
            return None
        progress = _read_progress(path)
        _refuse_another(path, progress, parameters, images)
        if progress["complete"]:
            lock.close()
            return cls.open(path)
        if not progress["names"]:
            write_json(path / "images.json", images)
        columns = Columns(path / "rows.zarr", dict(progress["levels"]), "r+" if progress["names"] else "w")
        columns.check(progress["rows"])
        columns.sweep()
        return cls(path, progress, columns, lock)

    @classmethod
    def open(cls, path: str | Path) -> EmbeddingStore:
        """Open a store for reading; rows of an interrupted image are passed over.

        Raises
        ------
        EmbeddingError
            If there is no store, or it is damaged.
        """
        path = Path(path)
        progress = _read_progress(path)
        columns = Columns(path / "rows.zarr", dict(progress["levels"]), "r")
        columns.check(progress["rows"])
        return cls(path, progress, columns)

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._progress["rows"]

    @property
    def names(self) -> list[str]:
        """Names of the images, in the order of ``Embeddings.image``."""
        return self._progress["names"]

    @property
    def parameters(self) -> dict[str, Any]:
        """What the store was made with."""
        return self._progress["parameters"]

    @property
    def levels(self) -> list[Level | str]:
        """Levels whose vectors are stored, in order; ``["projected"]`` where the embedder mixes them."""
        return list(self.widths)

    @property
    def widths(self) -> dict[Level | str, int]:
        """Level to numbers per vector."""
        return {int(level) if level.isdigit() else level: width for level, width in self._widths.items()}

    @property
    def is_complete(self) -> bool:
        """Whether every image of the split has been added."""
        return self._progress["complete"]

    @property
    def _widths(self) -> dict[str, int]:
        return dict(self._progress["levels"])

    @property
    def _group(self):
        return self._columns.group

    def append(self, name: str, rows: Mapping[str, np.ndarray]) -> None:
        """Add the rows of one image and count them; ``rows`` has all columns but "image", as in :class:`Embeddings`.

        Raises
        ------
        EmbeddingError
            If columns differ in length, vectors in width, or the store is open for reading only.
        FileError
            If the disk is full or may not be written.
        """
        self._ask_for_lock()
        number = len(rows["label"])
        rows = {**rows, "image": np.full(number, len(self.names), np.int32)}
        for column in (*ROW_COLUMNS, "embeddings"):
            if len(rows[column]) != number:
                raise EmbeddingError(f"Column {column} of image {name} has {len(rows[column])} rows, not {number}.")
        vectors = np.asarray(rows.pop("embeddings"), np.float32)
        if vectors.shape != (number, sum(self._widths.values())):
            raise EmbeddingError(f"The vectors of image {name} are {vectors.shape}; the store has {self._widths}.")
        ends = np.cumsum(list(self._widths.values()))
        for level, part in zip(self._widths, np.split(vectors, ends[:-1], axis=1), strict=True):
            rows[column_of(level)] = part
        self._columns.write(len(self), rows)
        self._commit(names=[*self.names, name], counts=[*self._progress["counts"], number], rows=len(self) + number)

    def finish(self) -> None:
        """Mark the store as complete and let go of its lock."""
        self._ask_for_lock()
        self._commit(complete=True)
        self.close()

    def close(self) -> None:
        """Let go of the lock: other processes may write, this object reads."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _ask_for_lock(self) -> None:
        if self._lock is None:
            raise EmbeddingError(
                f"The store {self.path} is open for reading only; reopen it with EmbeddingStore.create to add images."
            )

    def _commit(self, **changes: Any) -> None:
        self._progress = {**self._progress, **changes}
        write_json(self.path / "progress.json", self._progress)

    def load(self, n_per_class: int | None = None, seed: int = 0, levels: Sequence[Level] | None = None) -> Embeddings:
        """Rows in memory; no more of the disk is read than they need.

        Parameters
        ----------
        n_per_class
            At most so many rows of each class that got shares, drawn without replacement; None for all.
        seed
            Seed of the draw, which is the same whatever the levels.
        levels
            Levels whose vectors are wanted, in this order; None for all.

        Raises
        ------
        EmbeddingError
            If a level is not stored, or a file is missing or damaged.
        """
        levels = self.levels if levels is None else list(levels)
        if not levels or any(level not in self.widths for level in levels):
            raise EmbeddingError(f"The store {self.path} holds levels {self.levels}, not all of {levels}.")
        chosen = np.arange(len(self))
        if n_per_class is not None:
            label = self._column(self.parameters.get("per", "label"), chosen)
            rng = np.random.default_rng(seed)
            parts = [rng.permutation(np.flatnonzero(label == c))[:n_per_class] for c in range(NUM_CLASSES)]
            chosen = np.sort(np.concatenate(parts))
        vectors, end = np.empty((len(chosen), sum(self.widths[level] for level in levels)), np.float32), 0
        for level in levels:
            start, end = end, end + self.widths[level]
            self._columns.read(column_of(str(level)), chosen, vectors[:, start:end])
        return Embeddings(vectors, **{name: self._column(name, chosen) for name in ROW_COLUMNS})

    def _column(self, name: str, chosen: np.ndarray) -> np.ndarray:
        values = np.empty((len(chosen), 2) if name == "pixel" else len(chosen), ROW_COLUMNS[name])
        self._columns.read(name, chosen, values)
        return values


def fingerprint(dataset: Dataset) -> list[dict[str, Any]]:
    """What a data set holds: name of each image, SHA-256 of its file and of its label's, and what the ids mean.

    Whole files are read, which costs a hundredth of a forward pass; places do not count, so copies are equal.
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


def _digest(images: Any) -> str:
    return hashlib.sha256(json.dumps(plain(images), sort_keys=True).encode()).hexdigest()


def _claim(path: Path) -> ExitStack:
    """Lock a folder that is to be a store; closing what is returned frees it."""
    if path.is_dir() and not (path / "progress.json").is_file():
        ours = (path / ".lock", *path.glob(".progress.*.tmp.json"))
        others = sorted(item.name for item in path.iterdir() if item not in ours)
        if others:
            raise EmbeddingError(
                f"The folder {path} holds {others[0]} and is no embedding store; choose another or an empty folder."
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"The folder {path} cannot be made ({error.strerror}); choose another place.") from error
    lock = ExitStack()
    lock.enter_context(exclusive(path / ".lock", f"The store {path}"))
    return lock


def _read_progress(path: Path) -> dict[str, Any]:
    """Content of ``progress.json``, of which every value has been checked."""
    file = path / "progress.json"
    try:
        progress = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(progress, dict) and progress.get("format") != FORMAT:
            raise EmbeddingError(
                f"The store {path} has format {progress.get('format')} instead of {FORMAT}; delete it and extract anew."
            )
        _check_progress(progress)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EmbeddingError(
            f"There is no readable embedding store at {path} ({error}); extract the embeddings anew."
        ) from error
    return progress


def _check_progress(progress: dict[str, Any]) -> None:
    parameters, levels, names, counts, rows, complete = (
        progress[key] for key in ("parameters", "levels", "names", "counts", "rows", "complete")
    )
    if not isinstance(parameters, dict) or parameters.get("per", "label") not in ("label", "predicted"):
        raise ValueError("parameters are no parameters of a store")
    known = {PROJECTED, *map(str, ALL_LEVELS)}
    if not levels or not all(level in known and _is_count(width) and width > 0 for level, width in levels):
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


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse_another(path: Path, progress: dict[str, Any], parameters: Mapping[str, Any], images: Any) -> None:
    """EmbeddingError if a store was made with other parameters or of other images."""
    have, parameters = progress["parameters"], plain(parameters)
    other = [k for k in sorted({*have, *parameters}) if have.get(k) != parameters.get(k)]
    if other:
        details = ", ".join(f"{k}: {have.get(k)} instead of {parameters.get(k)}" for k in other)
        raise EmbeddingError(
            f"The store {path} was made with other parameters ({details}); delete it or choose another folder."
        )
    if progress["images_sha256"] != _digest(images):
        raise EmbeddingError(
            f"The store {path} was made of other images ({_differing(path, images)}); "
            "delete it or choose another folder."
        )


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


def extract_embeddings(
    segmenter: Segmenter,
    dataset: Dataset,
    embedder: PixelEmbedder,
    path: str | Path,
    *,
    n_per_class: int = 2000,
    per: Literal["label", "predicted"] = "label",
    oversampling: float = 4.0,
    seed: int = 0,
    progress: bool = True,
) -> EmbeddingStore:
    """Draw pixels of every class over all images of a split and store their embeddings.

    Each image gives at most ``oversampling * n_per_class / images`` pixels per class, at cells of the stride-4 grid;
    the factor makes up for classes that occur in few images. Interrupted and started again, it goes on where it was
    and gives the same store, since each image has its own random stream. Which pixels are drawn does not depend on the
    embedder.

    Parameters
    ----------
    segmenter, dataset, embedder
        What predicts, on which images, and how vectors are made.
    path
        Folder of the store.
    n_per_class
        Pixels per class that the store aims at; ``EmbeddingStore.load`` trims to it.
    per
        Whose classes get equal shares: those of the label, or those that the segmenter says (pixels without a label are
        left out all the same). Images without labels always give pixels per predicted class.
    oversampling
        See above.
    seed
        Seed of the drawing.
    progress
        Whether to show a bar.

    Raises
    ------
    EmbeddingError
        If a store with other parameters or of other images is at ``path``, or something that is no store; if features
        hold NaN.
    LockedError
        If another process extracts into it.
    FileError
        If the disk is full or may not be written.
    """
    share = max(1, int(np.ceil(oversampling * n_per_class / len(dataset))))
    parameters = {
        **embedder.parameters,
        "checkpoint": segmenter.checkpoint.sha256,
        "dataset": f"{dataset.name}/{dataset.split}",
        "images": len(dataset),
        "share": share,
        "per": per,
        "sample_seed": seed,
    }
    if segmenter.precision != "float32":
        parameters["precision"] = segmenter.precision
    path, images = Path(path), fingerprint(dataset)
    if (path / "progress.json").is_file():
        store = EmbeddingStore.open(path)
        _refuse_another(path, store._progress, parameters, images)
        if store.is_complete:
            return store
    with _claim(path) as lock:
        store = EmbeddingStore._resume(path, parameters, images, lock)
        done = 0 if store is None else len(store.names)
        for index in tqdm(
            range(done, len(dataset)), initial=done, total=len(dataset), disable=not progress, desc="extract"
        ):
            sample = dataset[index]
            prediction = segmenter.predict(sample.image())
            if store is None:
                widths = {str(level): width for level, width in embedder.widths(prediction).items()}
                store = EmbeddingStore._new(path, widths, parameters, images, lock)
            rows = _draw(prediction, sample.label(), embedder, share, per, np.random.default_rng((seed, index)))
            store.append(sample.name, rows)
        store.finish()
    return store


def _draw(prediction, label, embedder, share: int, per: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    cells = np.floor(grid_pixels(prediction.logits.shape[1:], prediction.size) + 0.5).astype(np.int32)
    predicted = prediction.classes[cells[:, 0], cells[:, 1]]
    classes = predicted if label is None else label[cells[:, 0], cells[:, 1]]
    shared = np.where(classes == VOID, VOID, predicted) if per == "predicted" else classes
    parts = [rng.permutation(np.flatnonzero(shared == c))[:share] for c in range(NUM_CLASSES)]
    chosen = np.sort(np.concatenate(parts))
    pixel = cells[chosen]
    return {
        "embeddings": embedder.transform(prediction, pixel),
        "label": classes[chosen],
        "predicted": predicted[chosen],
        "confidence": prediction.confidence[pixel[:, 0], pixel[:, 1]],
        "pixel": pixel,
    }
