"""Embeddings of many writers: one Zarr group, in which every image has chunks of its own, at any address.

Workers write whole chunks; rows of an image count once ``manifest.json`` says so. An image that is written twice, since
its worker ended, gets the same chunks. Missing and damaged chunks are found when they are read: each has a checksum,
and what is not there reads as values that no pixel has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr

from ..datasets.labels import NUM_CLASSES
from ..errors import EmbeddingError, IoodError
from ..io import plain
from ..method.columns import COMPRESSORS, PROJECTED, ROW_COLUMNS, Embeddings, checked, column_of
from ..method.draw import choose_rows
from ..method.levels import Level, level_of
from ..method.progress import digest
from ..method.store import EmbeddingStore
from .places import Place

FORMAT = 1
PENDING = -1
ABSENT = {"label": 255, "predicted": 255, "confidence": np.nan, "pixel": -1}
"""Stored columns without vectors (the image of a row follows from its place), and what a missing chunk reads as."""


class ShardedStore:
    """Pixel embeddings that many processes write; made by :meth:`open_or_create`, reopened by :meth:`open`.

    Attributes
    ----------
    place : Place
        Where it is.
    """

    def __init__(self, place: Place, manifest: dict[str, Any], images: Sequence[Mapping[str, Any]]) -> None:
        self.place = place
        self._manifest = manifest
        self._images = images

    @classmethod
    def open_or_create(
        cls,
        place: Place,
        widths: Mapping[Level | str, int],
        parameters: Mapping[str, Any],
        images: Sequence[Mapping[str, Any]],
    ) -> ShardedStore:
        """The store that was made with the same parameters of the same images, or a new one.

        Images that are not in it yet may have changed: a damaged one can be mended between two runs.

        Parameters
        ----------
        place : Place
        widths : mapping of level to int
            Numbers per vector of each level.
        parameters : mapping of str to object
            What the store is made with; ``"share"`` pixels of each class come from each image at most.
        images : sequence of mapping
            As ``method.progress.fingerprint`` gives it.

        Raises
        ------
        EmbeddingError
            If another store is there.
        """
        parameters, images = plain(parameters), plain(images)
        levels: list[list[Any]] = [[str(level), width] for level, width in widths.items()]
        manifest = place.read_json("manifest.json")
        if manifest is None:
            _make(
                place,
                {str(level): width for level, width in widths.items()},
                len(images),
                parameters["share"] * NUM_CLASSES,
            )
            new = {"format": FORMAT, "parameters": parameters, "levels": levels, "rows": [PENDING] * len(images)}
            store = cls(place, {**new, "skipped": {}, "complete": False}, images)
            place.write_json("images.json", images)
            store.commit({})
            return store
        store = cls.open(place.address, place.options)
        for what, have, want in (("parameters", store.parameters, parameters), ("levels", store._levels, levels)):
            if have != want:
                raise EmbeddingError(f"The store {place.address} has other {what} ({have}); choose another place.")
        store._renew(images)
        return store

    @classmethod
    def open(cls, address: str | Path, options: Mapping[str, Any] | None = None) -> ShardedStore:
        """Open a store for reading.

        Raises
        ------
        EmbeddingError
            If there is none, or it is damaged.
        """
        place = Place.of(address, options)
        manifest, images = place.read_json("manifest.json"), place.read_json("images.json")
        try:
            if manifest.pop("sha256") != digest(manifest) or manifest["format"] != FORMAT:
                raise ValueError("manifest.json has changed since it was written, or is of another version")
            if len(images) != len(manifest["rows"]):
                raise ValueError("images.json is that of another store")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EmbeddingError(
                f"There is no readable embedding store at {place.address} ({error}); delete it and extract anew."
            ) from error
        return cls(place, manifest, images)

    def __len__(self) -> int:
        return sum(rows for rows in self._manifest["rows"] if rows > 0)

    @property
    def names(self) -> list[str]:
        """Names of the images, in the order of ``Embeddings.image``; skipped ones are among them."""
        return [image["name"] for image in self._images]

    @property
    def parameters(self) -> dict[str, Any]:
        """What the store was made with."""
        return self._manifest["parameters"]

    @property
    def skipped(self) -> dict[str, str]:
        """Images that were left out, and why."""
        return {self.names[int(index)]: reason for index, reason in self._manifest["skipped"].items()}

    @property
    def pending(self) -> list[int]:
        """Numbers of the images that are still to be extracted, skipped ones included."""
        return [index for index, rows in enumerate(self._manifest["rows"]) if rows == PENDING]

    @property
    def is_complete(self) -> bool:
        """Whether every image is in it, or was skipped."""
        return self._manifest["complete"]

    @property
    def widths(self) -> dict[Level | str, int]:
        """Level to numbers per vector."""
        known = {level: level if level == PROJECTED else level_of(level) for level, _ in self._levels}
        return {cast("Level | str", known[level]): width for level, width in self._levels}

    @property
    def _levels(self) -> list[list[Any]]:
        return self._manifest["levels"]

    def commit(self, rows: Mapping[int, int], skipped: Mapping[int, str] | None = None, complete: bool = False) -> None:
        """Count images: number of rows by number of the image, and reasons of those that were skipped."""
        known = self._manifest
        for index, number in rows.items():
            known["rows"][index] = number
            known["skipped"].pop(str(index), None)
        known["skipped"] |= {str(index): reason for index, reason in (skipped or {}).items()}
        known["complete"] = complete
        self.place.write_json("manifest.json", {**known, "sha256": digest(known)})

    def _renew(self, images: Sequence[Mapping[str, Any]]) -> None:
        """Take the present images in place of those that are not in the store."""
        rows, had = self._manifest["rows"], self._images
        if [image["name"] for image in images] != self.names:
            raise EmbeddingError(f"The store {self.place.address} was made of other images; choose another place.")
        changed = [index for index, image in enumerate(images) if image != had[index]]
        if stored := [images[index]["name"] for index in changed if rows[index] != PENDING]:
            raise EmbeddingError(
                f"The image {stored[0]} has changed since it went into the store {self.place.address}; "
                "choose another place."
            )
        if changed:
            self._images = images
            self.place.write_json("images.json", images)
            self._manifest["skipped"] = {k: v for k, v in self._manifest["skipped"].items() if int(k) not in changed}
            self.commit({}, complete=False)

    def load(self, n_per_class: int | None = None, seed: int = 0, levels: Sequence[Level] | None = None) -> Embeddings:
        """Rows in memory, as ``EmbeddingStore.load`` gives them for the same parameters: the same draw.

        Raises
        ------
        EmbeddingError
            If a level is not stored, or a chunk is missing or damaged.
        """
        return self.read(self.choose(n_per_class, seed), levels)

    def choose(self, n_per_class: int | None = None, seed: int = 0) -> list[tuple[int, np.ndarray]]:
        """Which rows :meth:`load` would read: for each image its number, and rising row numbers within it."""
        counts = np.maximum(self._manifest["rows"], 0)
        if n_per_class is None:
            return [(index, np.arange(number)) for index, number in enumerate(counts) if number]
        everything = self.choose()
        chosen = choose_rows(self.column(self.parameters["per"], everything), n_per_class, seed)
        ends = np.cumsum(counts)
        parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
        return [(i, part - (ends[i] - counts[i])) for i, part in enumerate(parts) if len(part)]

    def column(self, name: str, chosen: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
        """Values of one column without vectors ("label", "confidence", ...) in chosen rows."""
        reader, counts = _Reader(self.place), self._manifest["rows"]
        values = [reader.column(name, index, counts[index])[rows] for index, rows in chosen]
        return np.concatenate(values) if values else np.zeros(0, ROW_COLUMNS[name])

    def read(self, chosen: Sequence[tuple[int, np.ndarray]], levels: Sequence[Level] | None = None) -> Embeddings:
        """Rows in memory; ``chosen`` as :meth:`choose` gives it, or a part of it."""
        made_of = self.parameters.get("levels") if list(self.widths) == [PROJECTED] else None
        wanted = list(self.widths) if levels is None or list(levels) == made_of else list(levels)
        if not wanted or any(level not in self.widths for level in wanted):
            raise EmbeddingError(
                f"The store {self.place.address} holds levels {list(self.widths)}, not all of {wanted}."
            )
        reader = _Reader(self.place)
        width, total = sum(self.widths[level] for level in wanted), sum(len(rows) for _, rows in chosen)
        columns: dict[str, np.ndarray] = {"embeddings": np.empty((total, width), np.float32)}
        columns |= {
            name: np.empty((total, 2) if name == "pixel" else total, kind) for name, kind in ROW_COLUMNS.items()
        }
        start = 0
        for index, rows in chosen:
            found = reader.rows(index, self._manifest["rows"][index], rows, wanted, self.names[index])
            for name, values in found.items():
                columns[name][start : start + len(rows)] = values
            start += len(rows)
        return Embeddings(**columns)

    def copy_to(self, path: str | Path) -> EmbeddingStore:
        """The same rows as the :class:`EmbeddingStore` that one process would have extracted; notebooks read that.

        Images that were skipped are not in it.

        Raises
        ------
        EmbeddingError
            If images are missing, or another store is at ``path``.
        """
        if not self.is_complete:
            raise EmbeddingError(
                f"The store {self.place.address} lacks {len(self.pending)} images; extract them first."
            )
        kept = [index for index, rows in enumerate(self._manifest["rows"]) if rows != PENDING]
        parameters = {**self.parameters, "images": len(kept)}
        if self._manifest["skipped"]:
            parameters["skipped"] = list(self.skipped)
        images, reader = [self._images[index] for index in kept], _Reader(self.place)
        with EmbeddingStore.open_or_create(path, self.widths, parameters, images) as store:
            for index in kept[len(store.names) :]:
                number, name = self._manifest["rows"][index], self.names[index]
                rows = reader.rows(index, number, np.arange(number), list(self.widths), name)
                store.append(name, rows)
            if not store.is_complete:
                store.finish()
        return store


class _Reader:
    """The arrays of a store, opened once."""

    def __init__(self, place: Place) -> None:
        self.address = place.address
        self._group = place.group("rows.zarr", "r")

    def column(self, name: str, index: int, number: int) -> np.ndarray:
        """Values (number, ...) of one image."""
        array = cast(zarr.Array, self._group[name])
        start = index * array.chunks[0]
        try:
            return np.asarray(array[start : start + number])
        except Exception as error:  # checksum, decompression or file system
            raise EmbeddingError(
                f"Image {index} in the column {name} of {self.address} is damaged ({error}); extract anew."
            ) from error

    def rows(
        self, index: int, number: int, chosen: np.ndarray, levels: Sequence[Level | str], name: str
    ) -> dict[str, np.ndarray]:
        """Chosen ones of the rows of one image, all columns."""
        vectors = [self.column(column_of(str(level)), index, number)[chosen] for level in levels]
        found = {column: self.column(column, index, number)[chosen] for column in ABSENT}
        found["embeddings"] = np.concatenate(vectors, 1) if vectors else np.zeros((len(chosen), 0), np.float32)
        try:
            rest = checked(name, found, len(chosen), found["embeddings"].shape[1])
        except IoodError as error:
            raise EmbeddingError(
                f"Chunks of image {name} are missing from {self.address} ({error}); extract anew."
            ) from error
        return rest | {"image": np.full(len(chosen), index, np.int32)}


def write_rows(place: Place, index: int, name: str, widths: Mapping[Level | str, int], rows: Mapping[str, Any]) -> int:
    """Write the chunks of one image, from any process; gives the number of rows.

    Raises
    ------
    EmbeddingError
        If values are impossible (NaN, classes beyond 0..18).
    """
    number = len(rows["label"])
    columns = checked(name, rows, number, sum(widths.values()))
    parts = np.split(columns.pop("embeddings"), np.cumsum(list(widths.values()))[:-1], axis=1)
    columns |= {column_of(str(level)): part for level, part in zip(widths, parts, strict=True)}
    group = place.group("rows.zarr", "r+")
    for column, values in columns.items() if number else ():
        array = cast(zarr.Array, group[column])
        chunk = np.full(array.chunks, array.fill_value, array.dtype)
        chunk[:number] = values
        array[index * len(chunk) : (index + 1) * len(chunk)] = chunk
    return number


def _make(place: Place, widths: Mapping[Level | str, int], images: int, rows: int) -> None:
    """New arrays, in which each image has one chunk of so many rows."""
    group = place.group("rows.zarr", "w")
    layout: dict[str, tuple[str, tuple[int, ...], Any]] = {
        name: (ROW_COLUMNS[name], (2,) if name == "pixel" else (), absent) for name, absent in ABSENT.items()
    }
    layout |= {column_of(str(level)): ("f4", (width,), np.nan) for level, width in widths.items()}
    for name, (kind, tail, absent) in layout.items():
        shape, chunks = (images * rows, *tail), (rows, *tail)
        group.create_array(name, shape=shape, chunks=chunks, dtype=kind, fill_value=absent, compressors=COMPRESSORS)
