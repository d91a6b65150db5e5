"""Columns of an embedding store: Zarr arrays of which every chunk has to be there and whole.

Zarr takes a missing chunk for zeros and trusts its own metadata. Here a chunk that is missing, damaged or of another
layout is an error that names the file: each chunk carries a checksum (CRC-32C), and chunks of zeros are written too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from .errors import EmbeddingError, FileError

ROW_COLUMNS = {"label": "u1", "predicted": "u1", "image": "i4", "confidence": "f4", "pixel": "i4"}
PROJECTED = "projected"
"""Level of vectors that are not those of one level of the network."""
CHUNK_BYTES = 4_000_000
"""Vectors of one block of rows, all levels together: appending rewrites the last block unless it is full."""
MIN_CHUNK_ROWS = 256
CHUNK_ROWS = 65_536
"""Rows of a chunk of the other columns."""
COMPRESSORS = (ZstdCodec(level=0, checksum=False), Crc32cCodec())


class Columns:
    """The arrays of a store below one folder.

    Parameters
    ----------
    path
        Folder of the Zarr group.
    widths
        Numbers per vector of each level, in order.
    mode
        "r" to read, "r+" to write, "w" to make the arrays anew.

    Raises
    ------
    EmbeddingError
        If the group cannot be read or its arrays have another layout.
    """

    def __init__(self, path: Path, widths: Mapping[str, int], mode: Literal["r", "r+", "w"]) -> None:
        self.path = path
        self._layout = _layout(widths)
        if mode == "w":
            _make(path, self._layout)
        try:
            self.group = zarr.open_group(path, mode="r" if mode == "r" else "r+")
            self._arrays = {name: self.group[name].with_config({"write_empty_chunks": True}) for name in self._layout}
            for name, (kind, tail, rows) in self._layout.items():
                array = self._arrays[name]
                layout = (array.dtype, array.shape[1:], array.chunks, array.compressors)
                if layout != (np.dtype(kind), tail, (rows, *tail), COMPRESSORS):
                    raise ValueError(f"{name} has another type, shape or compression")
        except Exception as error:  # whatever zarr stumbles over in damaged metadata
            raise EmbeddingError(
                f"The columns {path} cannot be read ({error}); extract the embeddings anew."
            ) from error

    def check(self, rows: int) -> None:
        """Ask for every chunk that ``rows`` rows need; EmbeddingError names the first that is missing."""
        for name, array in self._arrays.items():
            if array.shape[0] < rows:
                raise EmbeddingError(
                    f"The column {self.path / name} has {array.shape[0]} rows instead of {rows}; "
                    "extract the embeddings anew."
                )
            for number in range(-(-rows // array.chunks[0])):
                if not self._chunk_file(name, number).is_file():
                    raise EmbeddingError(
                        f"The file {self._chunk_file(name, number)} is missing; extract the embeddings anew."
                    )

    def read(self, name: str, chosen: np.ndarray, out: np.ndarray) -> None:
        """Put rows of a column into ``out``, one chunk in memory at a time.

        Parameters
        ----------
        name
            The column.
        chosen
            Rising row numbers, (n,).
        out
            (n, ...) of the column's type.
        """
        if not len(chosen):
            return
        array, size = self._arrays[name], self._arrays[name].chunks[0]
        first, last = chosen[0] // size, chosen[-1] // size
        ends = np.searchsorted(chosen, np.arange(first + 1, last + 2) * size)
        start = 0
        for number, end in zip(range(first, last + 1), ends, strict=True):
            if end > start:
                path = self._chunk_file(name, number)
                if not path.is_file():
                    raise EmbeddingError(f"The file {path} is missing; extract the embeddings anew.")
                try:
                    chunk = array[number * size : (number + 1) * size]
                except Exception as error:  # checksum, decompression or file system
                    raise EmbeddingError(
                        f"The file {path} is damaged ({error}); extract the embeddings anew."
                    ) from error
                out[start:end] = chunk[chosen[start:end] - number * size]
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


def column_of(level: str) -> str:
    """Name of the array that holds the vectors of a level."""
    return "embeddings" if level == PROJECTED else f"vectors/{level}"


def _layout(widths: Mapping[str, int]) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Type, shape of a row, and rows of a chunk of each array."""
    layout = {name: (kind, (2,) if name == "pixel" else (), CHUNK_ROWS) for name, kind in ROW_COLUMNS.items()}
    rows = max(MIN_CHUNK_ROWS, CHUNK_BYTES // (4 * sum(widths.values())))
    return layout | {column_of(level): ("f4", (width,), rows) for level, width in widths.items()}


def _make(path: Path, layout: Mapping[str, tuple[str, tuple[int, ...], int]]) -> None:
    try:
        group = zarr.open_group(path, mode="a")
        for name, (kind, tail, rows) in layout.items():
            group.create_array(
                name, shape=(0, *tail), chunks=(rows, *tail), dtype=kind, compressors=COMPRESSORS, overwrite=True
            )
    except OSError as error:
        raise FileError(f"The columns {path} cannot be made ({error.strerror or error}); free space there.") from error
