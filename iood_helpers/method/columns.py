"""Columns of an embedding store: Zarr arrays of which every chunk has to be there and whole.

Zarr takes a missing chunk for zeros and trusts its own metadata. Here a chunk that is missing, damaged or of another
layout is an error that names the file: each chunk carries a checksum (CRC-32C), and chunks of zeros are written too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ..checks import finite, train_ids, vectors
from ..errors import EmbeddingError, FileError

ROW_COLUMNS = {"label": "u1", "predicted": "u1", "image": "i4", "confidence": "f4", "pixel": "i4"}
PROJECTED = "projected"
"""Level of vectors that are not those of one level of the network."""
CHUNK_BYTES = 4_000_000
"""Vectors of one block of rows, all levels together: appending rewrites the last block unless it is full."""
MIN_CHUNK_ROWS = 256
CHUNK_ROWS = 65_536
"""Rows of a chunk of the other columns."""
Layout = dict[str, tuple[str, tuple[int, ...], int]]
"""Type, shape of a row, and rows of a chunk of each array."""
COMPRESSORS = (ZstdCodec(level=0, checksum=False), Crc32cCodec())


@dataclass(frozen=True)
class Embeddings:
    """Rows of a store in memory.

    Attributes
    ----------
    embeddings : numpy.ndarray
        (n, D) float32: the vectors of the levels asked for, side by side.
    label, predicted : numpy.ndarray
        True and predicted train id, (n,) uint8.
    image : numpy.ndarray
        Index into ``EmbeddingStore.names``, (n,) int32.
    pixel : numpy.ndarray
        Row and column in the image, (n, 2) int32.
    confidence : numpy.ndarray
        Maximum soft-max probability, (n,) float32.
    """

    embeddings: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    image: np.ndarray
    pixel: np.ndarray
    confidence: np.ndarray


class Columns:
    """The arrays of a store below one folder.

    Parameters
    ----------
    path : Path
        Folder of the Zarr group.
    widths : mapping of str to int
        Numbers per vector of each level, in order.
    mode : {"r", "r+", "w"}
        "r" to read, "r+" to write, "w" to make the arrays anew.

    Raises
    ------
    EmbeddingError
        If the group cannot be read or its arrays have another layout.
    """

    def __init__(self, path: Path, widths: Mapping[str, int], mode: Literal["r", "r+", "w"]) -> None:
        self.path = path
        self._layout = _layout(widths)
        self._trailers: dict[str, list[bytes]] = {name: [] for name in self._layout}
        if mode == "w":
            _make(path, self._layout)
        try:
            group = zarr.open_group(path, mode="r" if mode == "r" else "r+")
            found = {name: cast(zarr.Array, group[name]) for name in self._layout}
            self._arrays = {name: array.with_config({"write_empty_chunks": True}) for name, array in found.items()}
            for name, what in self._layout.items():
                if _described(self._arrays[name]) != _described(_array(zarr.group({}), name, *what)):
                    raise ValueError(f"{name} has another type, shape or compression")
        except Exception as error:  # whatever zarr stumbles over in damaged metadata
            raise EmbeddingError(
                f"The columns {path} cannot be read ({error}); delete the store and extract anew."
            ) from error

    def sums(self, rows: int, complete: bool) -> dict[str, str]:
        """SHA-256 of the checksums of each column's chunks, so that none can take another's place.

        The last chunk counts only in a complete store: until then it may hold rows that nobody counts.
        """
        sums = {}
        for name, (_, _, size) in self._layout.items():
            full, known = rows // size, self._trailers[name]
            known += [self._trailer(name, number) for number in range(len(known), full)]
            rest = [self._trailer(name, full)] if complete and rows % size else []
            sums[name] = hashlib.sha256(b"".join([*known, *rest])).hexdigest()
        return sums

    def check(self, rows: int, complete: bool, sums: Mapping[str, str]) -> None:
        """Ask for every chunk that ``rows`` rows need, with the checksums of :meth:`sums`; otherwise EmbeddingError."""
        for name, (_, _, size) in self._layout.items():
            if self._arrays[name].shape[0] < rows:
                raise EmbeddingError(
                    f"The column {self.path / name} has {self._arrays[name].shape[0]} rows instead of {rows}; "
                    "delete the store and extract anew."
                )
            if rows % size:  # no sum covers it yet, and the next writer adds to it
                self._chunk(name, rows // size)
        for name, found in self.sums(rows, complete).items():
            if rows and sums.get(name) != found:
                for number in range(-(-rows // self._layout[name][2])):
                    self._chunk(name, number)
                raise EmbeddingError(
                    f"The chunks of {self.path / name} are not those that were written; "
                    "delete the store and extract anew."
                )

    def _trailer(self, name: str, number: int) -> bytes:
        """Checksum at the end of a chunk's file."""
        path = self._chunk_file(name, number)
        try:
            with path.open("rb") as stream:
                stream.seek(-4, os.SEEK_END)
                return stream.read()
        except OSError as error:
            raise EmbeddingError(
                f"The file {path} is missing or damaged ({error.strerror}); delete the store and extract anew."
            ) from error

    def _chunk(self, name: str, number: int) -> np.ndarray:
        path, size = self._chunk_file(name, number), self._layout[name][2]
        if not path.is_file():
            raise EmbeddingError(f"The file {path} is missing; delete the store and extract anew.")
        try:
            return np.asarray(self._arrays[name][number * size : (number + 1) * size])
        except Exception as error:  # checksum, decompression or file system
            raise EmbeddingError(f"The file {path} is damaged ({error}); delete the store and extract anew.") from error

    def read(self, name: str, chosen: np.ndarray, out: np.ndarray) -> None:
        """Put rows of a column into ``out``, one chunk in memory at a time.

        Parameters
        ----------
        name : str
            The column.
        chosen : numpy.ndarray
            Rising row numbers, (n,).
        out : numpy.ndarray
            (n, ...) of the column's type.
        """
        if not len(chosen):
            return
        size = self._layout[name][2]
        first, last = chosen[0] // size, chosen[-1] // size
        ends = np.searchsorted(chosen, np.arange(first + 1, last + 2) * size)
        start = 0
        for number, end in zip(range(first, last + 1), ends, strict=True):
            if end > start:
                out[start:end] = self._chunk(name, number)[chosen[start:end] - number * size]
            start = end

    def write(self, start: int, columns: Mapping[str, np.ndarray]) -> None:
        """Put rows at the end, from row ``start`` on; rows beyond are cut off."""
        for name, (kind, *_) in self._layout.items():
            array, values = self._arrays[name], np.asarray(columns[name], kind)
            try:
                array.resize((start + len(values), *values.shape[1:]))
                array[start:] = values
            except OSError as error:
                raise FileError(
                    f"The column {self.path / name} cannot be written ({error.strerror or error}); "
                    "free space or mend the permissions, and start again: what is stored counts."
                ) from error

    def sweep(self) -> None:
        """Remove the half-written files of a writer that was killed."""
        for path in self.path.rglob("*.partial"):
            path.unlink(missing_ok=True)

    def _chunk_file(self, name: str, number: int) -> Path:
        inner = ["0"] * len(self._layout[name][1])
        return self.path.joinpath(*name.split("/"), "c", str(number), *inner)


def checked(name: str, rows: Mapping[str, np.ndarray], number: int, width: int) -> dict[str, np.ndarray]:
    """Columns of one image, if their values are possible."""
    embeddings = finite(vectors(rows["embeddings"], EmbeddingError, width), EmbeddingError)
    if len(embeddings) != number:
        raise EmbeddingError(f"Image {name} has {len(embeddings)} vectors for {number} pixels.")
    classes = {column: train_ids(rows[column], number, EmbeddingError) for column in ("label", "predicted")}
    confidence, pixel = np.asarray(rows["confidence"]), np.asarray(rows["pixel"])
    # written so that NaN fails; a soft-max may exceed 1 by rounding
    if confidence.shape != (number,) or not ((confidence >= 0) & (confidence <= 1 + 1e-5)).all():
        raise EmbeddingError(f"The confidences of image {name} are not (n,) numbers from 0 to 1.")
    if pixel.shape != (number, 2) or not (pixel >= 0).all():
        raise EmbeddingError(f"The pixels of image {name} are not (n, 2) rows and columns.")
    return classes | {"embeddings": embeddings, "confidence": confidence, "pixel": pixel}


def column_of(level: str) -> str:
    """Name of the array that holds the vectors of a level."""
    return "embeddings" if level == PROJECTED else f"vectors/{level}"


def _layout(widths: Mapping[str, int]) -> Layout:
    layout: Layout = {name: (kind, (2,) if name == "pixel" else (), CHUNK_ROWS) for name, kind in ROW_COLUMNS.items()}
    rows = max(MIN_CHUNK_ROWS, CHUNK_BYTES // (4 * sum(widths.values())))
    return layout | {column_of(level): ("f4", (width,), rows) for level, width in widths.items()}


def _make(path: Path, layout: Layout) -> None:
    try:
        group = zarr.open_group(path, mode="a")
        for name, what in layout.items():
            _array(group, name, *what)
    except OSError as error:
        raise FileError(f"The columns {path} cannot be made ({error.strerror or error}); free space there.") from error


def _array(group: zarr.Group, name: str, kind: str, tail: tuple[int, ...], rows: int) -> zarr.Array:
    """New empty array."""
    shape, chunks = (0, *tail), (rows, *tail)
    return group.create_array(name, shape=shape, chunks=chunks, dtype=kind, compressors=COMPRESSORS, overwrite=True)


def _described(array: zarr.Array) -> dict[str, object]:
    """Metadata of an array but for its number of rows."""
    metadata = array.metadata.to_dict()
    return {**metadata, "shape": array.shape[1:]}
