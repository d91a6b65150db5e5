"""PyTorch files without Python's unpickler at work: tensors and plain values are read, nothing in the file is called.

Training tools put objects of their own beside the weights (loggers, configs, numbers of NumPy). Each becomes an inert
stand-in that keeps what it was given and can do nothing. Stricter than ``torch.load(weights_only=True)``, which refuses
such files, and bounded: declared sizes are checked before memory is taken.

Source: the zip and the older layout of ``torch.save`` as ``torch/serialization.py`` writes them.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .errors import CheckpointError

MAX_OPCODES = 3_000_000
"""Steps of a pickle; the official XL file with its optimizer has about 200 000."""
MAX_GIB = 16
"""Largest checkpoint that is read; ``IOOD_MAX_CHECKPOINT_GB`` sets another limit."""
MAX_PICKLE = 1 << 28
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
DANGEROUS = (
    *("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "pty", "runpy", "importlib", "ctypes", "code"),
    *("commands", "webbrowser", "pickle", "marshal", "types", "inspect", "asyncio", "multiprocessing", "operator"),
)
"""Modules that no training tool puts into a checkpoint; a file that names one is refused, though nothing would run."""
DANGEROUS_BUILTINS = ("eval", "exec", "compile", "__import__", "open", "input", "breakpoint", "globals", "vars")
MAX_CLASSES = 10_000


class StandIn:
    """Object of a class that is not imported; it keeps items and state, so that names in them can be looked up."""

    named = "?"

    def __new__(cls, *_: Any, **__: Any) -> StandIn:
        made = object.__new__(cls)
        made.items = {}
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """Lists and sets of other people end here."""

    extend = add = append


@dataclass(frozen=True)
class StoredTensor:
    """Where the numbers of a tensor are; :meth:`PickledFile.read` fetches them."""

    dtype: torch.dtype
    key: str
    numel: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str
    numel: int


def _tensor(storage: _Storage, offset: int, size: tuple, stride: tuple, *_: Any) -> StoredTensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > storage.numel or (math.prod(size) and last >= storage.numel):
        raise pickle.UnpicklingError("a tensor larger than what is stored of it")
    return StoredTensor(storage.dtype, storage.key, storage.numel, offset, tuple(size), tuple(stride))


def _parameter(data: StoredTensor, *_: Any) -> StoredTensor:
    return data


class _Unpickler(pickle._Unpickler):
    """Python's own slow unpickler: its memo is a dictionary, where the fast one's grows to the largest index named."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__(stream, encoding="utf-8", errors="replace")
        self._path, self._classes = path, {}

    def load(self) -> Any:
        self._unframer = pickle._Unframer(self._file_read, self._file_readline)
        self.read, self.readinto = self._unframer.read, self._unframer.readinto
        self.readline = self._unframer.readline
        self.metastack, self.stack, self.proto = [], [], 0
        self.append = self.stack.append
        for _ in range(MAX_OPCODES):
            key = self.read(1)
            if not key:
                raise EOFError
            try:
                self.dispatch[key[0]](self)
            except pickle._Stop as stop:
                return stop.value
        raise CheckpointError(f"The checkpoint {self._path} holds a pickle without an end; ask for the weights alone.")

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if module in ("torch", "torch.storage") and name in DTYPES:
            return DTYPES[name]
        builtin = module in ("builtins", "__builtin__")
        if module.split(".")[0] in DANGEROUS or (builtin and name in DANGEROUS_BUILTINS):
            raise CheckpointError(
                f"The checkpoint {self._path} names {module}.{name}, which could execute code, so it was not loaded; "
                "ask its author for a file with tensors only."
            )
        full = f"{module}.{name}"
        if len(self._classes) > MAX_CLASSES:
            raise pickle.UnpicklingError("thousands of classes")
        return self._classes.setdefault(full, type("StandIn", (StandIn,), {"named": full}))

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, numel = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(numel, int) or numel < 0:
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return _Storage(dtype, str(key), numel)

    def _build(self) -> None:
        """State goes to stand-ins only; whatever else it is given to, is left as it is."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], StandIn) and isinstance(state, dict):
            self.stack[-1].items.update(state)

    def _bytearray(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(min(size, MAX_PICKLE)))

    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.BYTEARRAY8[0]] = _bytearray


_KNOWN: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): dict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
}


class PickledFile:
    """An open PyTorch file: its content with tensors to be fetched.

    Attributes
    ----------
    content
        What was saved, with :class:`StoredTensor` for tensors and :class:`StandIn` for foreign objects.
    """

    def __init__(self, content: Any, fetch: Callable[[str, int], bytearray]) -> None:
        self.content, self._fetch = content, fetch

    def read(self, stored: StoredTensor) -> Tensor:
        """The tensor, in memory of its own."""
        flat = torch.frombuffer(self._fetch(stored.key, stored.numel * stored.dtype.itemsize), dtype=torch.uint8)
        flat = flat.view(stored.dtype)
        return flat.as_strided(stored.size, stored.stride, stored.offset)


@contextmanager
def opened(path: Path) -> Iterator[PickledFile]:
    """Open a file of ``torch.save``.

    Raises
    ------
    CheckpointError
        If it is damaged, too large, or names code.
    """
    limit = float(os.environ.get("IOOD_MAX_CHECKPOINT_GB") or MAX_GIB)
    if path.stat().st_size > limit * 2**30:
        raise CheckpointError(
            f"The checkpoint {path} is larger than {limit:g} GiB; set IOOD_MAX_CHECKPOINT_GB if you trust it."
        )
    with path.open("rb") as stream:
        start = stream.read(4)
        stream.seek(0)
        try:
            file = _open_zip(stream, path) if start.startswith(b"PK") else _open_legacy(stream, path)
            yield file
        except CheckpointError:
            raise
        except (zipfile.BadZipFile, *_DAMAGE) as error:
            raise CheckpointError(
                f"The checkpoint {path} is damaged or not a PyTorch file; download it again."
            ) from error


_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, OSError, struct.error, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, AssertionError, OverflowError, RecursionError, NotImplementedError, RuntimeError, MemoryError),
)
"""What a damaged pickle or zip makes of the code that reads it."""


def _open_zip(stream: BinaryIO, path: Path) -> PickledFile:
    archive = zipfile.ZipFile(stream)
    members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in members.values()):
        raise CheckpointError(f"The checkpoint {path} was packed by another program than PyTorch; get the original.")
    total = sum(info.file_size for info in members.values())
    if "data.pkl" not in members or total > path.stat().st_size or members["data.pkl"].file_size > MAX_PICKLE:
        raise pickle.UnpicklingError("no pickle of this size in the archive")
    if "byteorder" in members and archive.read(members["byteorder"])[:6] != b"little":
        raise CheckpointError(
            f"The checkpoint {path} comes from a big-endian machine; convert it to safetensors there."
        )

    def fetch(key: str, size: int) -> bytearray:
        info = members[f"data/{key}"]
        if info.file_size != size:
            raise EOFError
        content = bytearray(size)
        with archive.open(info) as member:  # checks the CRC when the last byte is read
            if member.readinto(content) != size or member.read(1):
                raise EOFError
        return content

    return PickledFile(_Unpickler(io.BytesIO(archive.read(members["data.pkl"])), path).load(), fetch)


def _open_legacy(stream: BinaryIO, path: Path) -> PickledFile:
    if _Unpickler(stream, path).load() != LEGACY_MAGIC:
        raise pickle.UnpicklingError("another kind of file")
    _Unpickler(stream, path).load()  # version of the protocol
    system = _Unpickler(stream, path).load()
    if not system.get("little_endian", True):
        raise CheckpointError(
            f"The checkpoint {path} comes from a big-endian machine; convert it to safetensors there."
        )
    unpickler = _LegacyUnpickler(stream, path)
    content = unpickler.load()
    keys = _Unpickler(stream, path).load()
    places, end = {}, path.stat().st_size
    for key in keys:
        (numel,) = struct.unpack("<q", stream.read(8))
        size = numel * unpickler.widths[str(key)]
        places[str(key)] = stream.tell(), size
        if numel < 0 or stream.seek(size, os.SEEK_CUR) > end:
            raise EOFError

    def fetch(key: str, size: int) -> bytearray:
        place, stored = places[key]
        if size != stored:
            raise EOFError
        stream.seek(place)
        content = bytearray(size)
        if stream.readinto(content) != size:
            raise EOFError
        return content

    return PickledFile(content, fetch)


class _LegacyUnpickler(_Unpickler):
    """Notes the bytes per number of each storage, which the older layout does not repeat."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__(stream, path)
        self.widths: dict[str, int] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        storage = super().persistent_load(pid)
        self.widths[storage.key] = storage.dtype.itemsize
        return storage
