"""The format of ``torch.save``: content first, tensors only when they are read.

Source: the zip layout and the older one as ``torch/serialization.py`` writes them.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import CheckpointError
from .safe_pickle import MAX_PICKLE, StandIn, Storage, StoredTensor, Unpickler

MAX_GIB = 16
"""Largest checkpoint that is read; ``IOOD_MAX_CHECKPOINT_GB`` sets another limit."""
MAX_REUSE = 4
"""How often tensors may use each stored number on average, as tied weights do; 1 MB could become 32 GB otherwise."""
READ_AT_ONCE = 1 << 22
"""Bytes; an archive's member makes a copy of what it is asked for."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class TorchFile:
    """An open PyTorch file.

    Attributes
    ----------
    content : object
        What was saved, with :class:`~iood_helpers.model.safe_pickle.StoredTensor` for tensors and
        :class:`~iood_helpers.model.safe_pickle.StandIn` for foreign objects.
    """

    def __init__(self, content: Any, fetch: Callable[[str, int], Tensor], size: int) -> None:
        self.content, self._fetch, self._size = content, fetch, size

    def read(self, stored: Mapping[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors, each in memory of its own, one storage after the other."""
        total = sum(math.prod(tensor.size) * tensor.dtype.itemsize for tensor in stored.values())
        if total > MAX_REUSE * self._size:
            raise pickle.UnpicklingError("the same numbers many times over")
        names: dict[str, list[str]] = {}
        for name, tensor in stored.items():
            names.setdefault(tensor.key, []).append(name)
        for sharing in names.values():
            yield from self._from_one_storage({name: stored[name] for name in sharing})

    def _from_one_storage(self, stored: Mapping[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
        first = next(iter(stored.values()))
        size = first.numel * first.dtype.itemsize
        flat = self._fetch(first.key, size)
        for name, tensor in stored.items():
            if tensor.numel * tensor.dtype.itemsize != size:
                raise EOFError
            view = flat.view(tensor.dtype).as_strided(tensor.size, tensor.stride, tensor.offset)
            alone = len(stored) == 1 and view.numel() == tensor.numel
            yield name, view if alone else view.clone()  # a view would keep all of the storage


def max_bytes() -> float:
    """Size of the largest checkpoint that is read.

    Raises
    ------
    CheckpointError
        If ``IOOD_MAX_CHECKPOINT_GB`` is not a number.
    """
    limit = os.environ.get("IOOD_MAX_CHECKPOINT_GB") or MAX_GIB
    try:
        return float(limit) * 2**30
    except ValueError:
        raise CheckpointError(f"IOOD_MAX_CHECKPOINT_GB is {limit!r}; give a number of GiB, 16 for example.") from None


@contextmanager
def opened(path: Path) -> Iterator[TorchFile]:
    """Open a file of ``torch.save``.

    Raises
    ------
    CheckpointError
        If it is damaged or names code.
    """
    with path.open("rb") as stream:
        start = stream.read(4)
        stream.seek(0)
        try:
            yield _open_zip(stream, path) if start.startswith(b"PK") else _open_legacy(stream, path)
        except CheckpointError:
            raise
        except _DAMAGE as error:
            raise CheckpointError(
                f"The checkpoint {path} is damaged or not a PyTorch file; download it again."
            ) from error


_DAMAGE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, struct.error, ValueError, TypeError, LookupError),
    *(AttributeError, AssertionError, OverflowError, RecursionError, NotImplementedError, RuntimeError, MemoryError),
)
"""Errors that a damaged pickle or zip causes in the code that reads it."""


def _filled(size: int, stream: Any) -> Tensor:
    """The next bytes of a stream, in memory aligned as PyTorch aligns its own."""
    content = torch.empty(size, dtype=torch.uint8)
    place = content.numpy().data if size else b""
    for start in range(0, size, READ_AT_ONCE):
        piece = place[start : start + READ_AT_ONCE]
        if stream.readinto(piece) != len(piece):
            raise EOFError
    return content


def _open_zip(stream: BinaryIO, path: Path) -> TorchFile:
    archive = zipfile.ZipFile(stream)
    members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in members.values()):
        raise CheckpointError(f"The checkpoint {path} was packed by another program than PyTorch; get the original.")
    total, whole = sum(info.file_size for info in members.values()), path.stat().st_size
    if "data.pkl" not in members or total > whole or members["data.pkl"].file_size > MAX_PICKLE:
        raise pickle.UnpicklingError("no pickle of this size in the archive")
    if "byteorder" in members and archive.read(members["byteorder"])[:6] != b"little":
        raise _big_endian(path)

    def fetch(key: str, size: int) -> Tensor:
        info = members[f"data/{key}"]
        if info.file_size != size:
            raise EOFError
        with archive.open(info) as member:
            content = _filled(size, member)
            if member.read(1):  # the CRC is checked where the end is met
                raise EOFError
        return content

    return TorchFile(Unpickler(io.BytesIO(archive.read(members["data.pkl"])), path).load(), fetch, whole)


def _open_legacy(stream: BinaryIO, path: Path) -> TorchFile:
    if Unpickler(stream, path).load() != LEGACY_MAGIC:
        raise pickle.UnpicklingError("another kind of file")
    Unpickler(stream, path).load()  # version of the protocol
    system = Unpickler(stream, path).load()
    if not system.get("little_endian", True):
        raise _big_endian(path)
    unpickler = _LegacyUnpickler(stream, path)
    content = unpickler.load()
    places = _legacy_places(stream, Unpickler(stream, path).load(), unpickler.widths, path.stat().st_size)

    def fetch(key: str, size: int) -> Tensor:
        place, stored = places[key]
        if size != stored:
            raise EOFError
        stream.seek(place)
        return _filled(size, stream)

    return TorchFile(content, fetch, path.stat().st_size)


def _legacy_places(stream: BinaryIO, keys: list, widths: dict[str, int], end: int) -> dict[str, tuple[int, int]]:
    """Place and size in bytes of each storage; they follow one another, each after the count of its numbers."""
    places = {}
    for key in (str(key) if isinstance(key, int) else key for key in keys):
        (numel,) = struct.unpack("<q", stream.read(8))
        size = numel * widths[key]
        places[key] = stream.tell(), size
        if numel < 0 or stream.seek(size, os.SEEK_CUR) > end:
            raise EOFError
    return places


def _big_endian(path: Path) -> CheckpointError:
    return CheckpointError(f"The checkpoint {path} comes from a big-endian machine; convert it to safetensors there.")


class _LegacyUnpickler(Unpickler):
    """Keeps the bytes per number of each storage, which the older layout does not repeat."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__(stream, path)
        self.widths: dict[str, int] = {}

    def persistent_load(self, pid: Any) -> Storage | StandIn:
        storage = super().persistent_load(pid)
        if isinstance(storage, StandIn):
            raise CheckpointError(
                f"The checkpoint {self._path} holds numbers of kind {storage.named}, which are not read."
            )
        self.widths[storage.key] = storage.dtype.itemsize
        return storage
