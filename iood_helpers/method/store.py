"""Embeddings on disk: columns that grow image by image, survive an interruption, and know what they were made of.

Rows count only once ``progress.json`` says so. It is renamed into place after the rows of an image are written, so a
process that dies leaves at most rows that nobody counts: readers pass over them, the next writer puts its own there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from tqdm.auto import tqdm

from ..checks import whole
from ..errors import EmbeddingError
from ..io import write_json
from ..renamed import warn
from .columns import PROJECTED, ROW_COLUMNS, Columns, Embeddings, checked, column_of
from .draw import choose_rows, draw_parameters, draw_rows
from .embedder import MAX_DIM, PixelEmbedder
from .levels import Level, level_of
from .progress import claim, fingerprint, is_column, known_progress, new_progress, read_progress, write_progress

if TYPE_CHECKING:
    from ..datasets.loading import Dataset
    from ..model.segmenter import Prediction, Segmenter


class EmbeddingStore:
    """Pixel embeddings, one array per level; made by :meth:`open_or_create`, reopened for reading by :meth:`open`.

    A store from :meth:`open_or_create` is locked against other writers until :meth:`finish` or :meth:`close` is called
    or the block ``with EmbeddingStore.open_or_create(...) as store`` ends. Stores from :meth:`open` change nothing.
    """

    def __init__(self, path: Path, progress: dict[str, Any], columns: Columns, lock: ExitStack | None = None) -> None:
        self.path = path
        self._progress = progress
        self._columns = columns
        self._lock = lock

    @classmethod
    def open_or_create(
        cls,
        path: str | Path,
        dim: int | Mapping[Level | str, int] | Callable[[], Mapping[Level | str, int]],
        parameters: Mapping[str, Any],
        images: Sequence[Mapping[str, Any]] | None = None,
    ) -> EmbeddingStore:
        """The store that was made with the same parameters (for reading, if it is complete), or a new one.

        Parameters
        ----------
        path : str or Path
            Its folder; missing, empty, or a store.
        dim : int, mapping of level to int, or callable
            Numbers per vector, or those of each level in order; or a function that gives the latter, called for a new
            store only.
        parameters : mapping of str to object
            What the store is made with: plain values.
        images : sequence of mapping, optional
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
        path = Path(path).expanduser()
        widths = None if callable(dim) else _widths(dim)
        progress = known_progress(path, parameters, images)
        with ExitStack() as lock:
            if progress is None or not progress["complete"]:  # reading needs no lock and no permission to write
                lock.enter_context(claim(path))
                progress = known_progress(path, parameters, images)
            if progress is None:
                widths = _widths(dim() if callable(dim) else dim)
                progress = new_progress(path, widths, parameters, images)
            if widths not in (None, dict(progress["levels"])):
                raise EmbeddingError(
                    f"The store {path} has vectors of {dict(progress['levels'])} instead of {widths}; "
                    "delete it or choose another folder."
                )
            if progress["complete"]:
                return cls.open(path)
            if not progress["names"]:
                write_json(path / "images.json", images)
            store = cls(path, progress, _columns(path, progress, "r+" if progress["names"] else "w"))
            store._columns.sweep()
            store._lock = lock.pop_all()
        return store

    @classmethod
    def create(cls, *args: Any, **options: Any) -> EmbeddingStore:
        """Old name of :meth:`open_or_create`."""
        warn("EmbeddingStore.create", "open_or_create")
        return cls.open_or_create(*args, **options)

    @classmethod
    def open(cls, path: str | Path) -> EmbeddingStore:
        """Open a store for reading; rows of an interrupted image are passed over.

        Raises
        ------
        EmbeddingError
            If there is no store, or it is damaged.
        """
        path = Path(path).expanduser()
        progress = read_progress(path)
        return cls(path, progress, _columns(path, progress, "r"))

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
        return {
            cast("Level | str", level_of(level) if level != PROJECTED else level): width
            for level, width in self._widths.items()
        }

    @property
    def is_complete(self) -> bool:
        """Whether every image of the split has been added."""
        return self._progress["complete"]

    @property
    def _widths(self) -> dict[str, int]:
        return dict(self._progress["levels"])

    def append(self, name: str, rows: Mapping[str, np.ndarray]) -> None:
        """Add the rows of one image and count them; ``rows`` has all columns but "image", as in :class:`Embeddings`.

        Raises
        ------
        EmbeddingError
            If columns differ in length, vectors in width, values are impossible (NaN, classes beyond 0..18), or the
            store is open for reading only.
        FileError
            If the disk is full or may not be written.
        """
        self._ask_for_lock()
        number = len(rows["label"])
        rows = checked(name, rows, number, sum(self._widths.values()))
        ends = np.cumsum(list(self._widths.values()))
        parts = np.split(rows.pop("embeddings"), ends[:-1], axis=1)
        rows |= {column_of(level): part for level, part in zip(self._widths, parts, strict=True)}
        rows["image"] = np.full(number, len(self.names), np.int32)
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
                f"The store {self.path} is open for reading only; reopen it with open_or_create to add images."
            )

    def _commit(self, **changes: Any) -> None:
        progress = {**self._progress, **changes}
        progress["sums"] = self._columns.sums(progress["rows"], progress["complete"])
        self._progress = write_progress(self.path, progress)

    def load(self, n_per_class: int | None = None, seed: int = 0, levels: Sequence[Level] | None = None) -> Embeddings:
        """Rows in memory; no more of the disk is read than they need.

        Parameters
        ----------
        n_per_class : int, optional
            At most so many rows of each class that got shares, drawn without replacement; None for all.
        seed : int, default=0
            Seed of the draw, which is the same whatever the levels.
        levels : sequence of int or str, optional
            Levels whose vectors are wanted, in this order; None for all. A store that holds them mixed gives all it
            has for the levels that it was made from, and no other choice.

        Raises
        ------
        EmbeddingError
            If a level is not stored, or a file is missing or damaged.
        """
        made_of = self.parameters.get("levels") if self.levels == [PROJECTED] else None
        widths = self.widths
        wanted = self.levels if levels is None or list(levels) == made_of else list(levels)
        if not wanted or any(level not in widths for level in wanted):
            raise EmbeddingError(f"The store {self.path} holds levels {self.levels}, not all of {wanted}.")
        chosen = np.arange(len(self))
        if n_per_class is not None:
            chosen = choose_rows(self._column(self.parameters.get("per", "label"), chosen), n_per_class, seed)
        numbers, end = np.empty((len(chosen), sum(widths[level] for level in wanted)), np.float32), 0
        for level in wanted:
            start, end = end, end + widths[level]
            self._columns.read(column_of(str(level)), chosen, numbers[:, start:end])
        return Embeddings(numbers, **{name: self._column(name, chosen) for name in ROW_COLUMNS})

    def _column(self, name: str, chosen: np.ndarray) -> np.ndarray:
        values = np.empty((len(chosen), 2) if name == "pixel" else len(chosen), ROW_COLUMNS[name])
        self._columns.read(name, chosen, values)
        return values


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

    Each image gives at most ``oversampling * n_per_class / images`` pixels per class, at cells of the logits' grid;
    the factor makes up for classes that occur in few images. Interrupted and started again, it goes on where it was
    and gives the same store, since each image has its own random stream. Which pixels are drawn does not depend on the
    embedder.

    Parameters
    ----------
    segmenter : Segmenter
        What predicts.
    dataset : Dataset
        On which images.
    embedder : PixelEmbedder
        How vectors are made.
    path : str or Path
        Folder of the store.
    n_per_class : int, default=2000
        Pixels per class that the store aims at; ``EmbeddingStore.load`` trims to it.
    per : {"label", "predicted"}
        Whose classes get equal shares: the true or the predicted ones (void is left out all the same). Images without
        labels always give pixels per predicted class.
    oversampling : float, default=4.0
        See above, positive.
    seed : int, default=0
        Seed of the draw.
    progress : bool, default=True
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
    parameters = draw_parameters(
        dataset,
        embedder,
        checkpoint=segmenter.checkpoint.sha256,
        precision=segmenter.precision,
        n_per_class=n_per_class,
        per=per,
        oversampling=oversampling,
        seed=seed,
    )
    share = parameters["share"]

    @lru_cache(maxsize=1)  # the first prediction tells the widths, too
    def predict(index: int) -> Prediction:
        return segmenter.predict(dataset[index].image())

    images = fingerprint(dataset)
    with EmbeddingStore.open_or_create(path, lambda: embedder.widths(predict(0)), parameters, images) as store:
        done, hidden = len(store.names), not progress or store.is_complete
        for index in tqdm(range(done, len(dataset)), "extract", initial=done, total=len(dataset), disable=hidden):
            sample, rng = dataset[index], np.random.default_rng((seed, index))
            store.append(sample.name, draw_rows(predict(index), sample.label(), embedder, share, per, rng))
        if not store.is_complete:
            store.finish()
    return store


def _widths(dim: int | Mapping[Level | str, int]) -> dict[str, int]:
    """Level to numbers per vector, if a store can have them."""
    levels = dim if isinstance(dim, Mapping) else {PROJECTED: dim}
    widths = {str(level): whole("dim", width, 1, MAX_DIM, EmbeddingError) for level, width in levels.items()}
    if not widths or not all(map(is_column, widths)):
        raise EmbeddingError(f"A store has levels of a prediction or {PROJECTED!r}, not {list(widths)}.")
    return widths


def _columns(path: Path, progress: dict[str, Any], mode: Literal["r", "r+", "w"]) -> Columns:
    columns = Columns(path / "rows.zarr", dict(progress["levels"]), mode)
    columns.check(progress["rows"], progress["complete"], progress["sums"])
    return columns
