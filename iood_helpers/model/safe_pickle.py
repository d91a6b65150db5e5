"""The pickle in a PyTorch file, without Python's unpickler at work: nothing that the file names is imported or called.

Training tools put objects of their own beside the weights (loggers, configs, numbers of NumPy). Each becomes an inert
stand-in that keeps what it was given and can do nothing. Stricter than ``torch.load(weights_only=True)``, which refuses
such files, and bounded: no opcode takes more time or memory than its own length justifies.

Source: the opcodes of ``pickle.py``; storages and tensors as ``torch/serialization.py`` and ``torch/_utils.py`` write
them.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch

from ..errors import CheckpointError

_pickle: Any = pickle  # type checkers do not know its private parts
MAX_OPCODES = 500_000
"""Steps of a pickle: weights of an XL model with their optimizer take about 150 000."""
MAX_PICKLE = 1 << 28
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
    *("commands", "webbrowser", "pickle", "marshal", "types", "inspect", "io", "_io", "asyncio", "multiprocessing"),
    "operator",
)
"""Modules that no training tool puts into a checkpoint; a file that names one is refused, though nothing would run."""
DANGEROUS_BUILTINS = ("eval", "exec", "compile", "__import__", "open", "input", "breakpoint", "globals", "vars")
MAX_CLASSES = 10_000
MAX_NAME = 1000
MAX_DIMENSIONS = 64
PLAIN = (str, bytes, int, float, torch.dtype, type, type(None))


class StandIn:
    """Object of a class that is not imported; it keeps items and state, so that names in them can be looked up."""

    __slots__ = ("_parts",)
    named = "?"

    def __init__(self, given: Sequence[Any] = ()) -> None:
        # Kept as they are: a copy of one large dictionary for each of many objects would fill the memory.
        self._parts: list[dict] = [{}, *(part for part in given[:4] if isinstance(part, dict))]

    @property
    def items(self) -> dict:
        """What was given to the object by name."""
        return {key: value for part in {id(part): part for part in self._parts}.values() for key, value in part.items()}

    def keep(self, state: Any) -> None:
        """Take a dictionary; anything else is forgotten."""
        if isinstance(state, dict):
            self._parts.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._parts[0][key] = value

    def append(self, value: Any) -> None:
        """Items of foreign lists and sets are dropped."""

    extend = add = append


@dataclass(frozen=True)
class StoredTensor:
    """Where the numbers of a tensor are; :meth:`iood_helpers.model.torch_format.TorchFile.read` fetches them."""

    dtype: torch.dtype
    key: str
    numel: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file, which tensors show parts of."""

    dtype: torch.dtype
    key: str
    numel: int


def _tensor(storage: Storage | StandIn, offset: int, size: tuple, stride: tuple, *_: Any) -> StoredTensor | StandIn:
    if isinstance(storage, StandIn):
        return storage
    if len(size) > MAX_DIMENSIONS or len(stride) != len(size):
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > storage.numel or (math.prod(size) and last >= storage.numel):
        raise pickle.UnpicklingError("a tensor larger than what is stored of it")
    return StoredTensor(storage.dtype, storage.key, storage.numel, offset, tuple(size), tuple(stride))


def _of_type(rebuild: Callable, kind: Any, arguments: tuple, *_: Any) -> StoredTensor | StandIn:
    """A tensor with attributes of its own; subclasses of tensors are not read."""
    if rebuild is _tensor and getattr(kind, "named", "") in ("torch._tensor.Tensor", "torch.Tensor"):
        return _tensor(*arguments[:8])
    return StandIn()


def _size(numbers: tuple = ()) -> tuple:
    if not isinstance(numbers, tuple):
        raise pickle.UnpicklingError("a size that is not a tuple")
    return numbers


def _check_key(key: Any) -> None:
    """Only plain keys: hashing forty tuples, each of which holds the one before it twice, would never end."""
    if not isinstance(key, (*PLAIN, StandIn)) and not (
        type(key) is tuple and all(isinstance(part, PLAIN) for part in key)
    ):
        raise pickle.UnpicklingError("a key of an unusual kind")


def _with_keys(load: Callable, step: int) -> Callable:
    """The opcode, after a look at the keys among what was marked (every ``step``-th)."""

    def checked(self: Unpickler) -> None:
        for key in self.stack[::step]:
            _check_key(key)
        load(self)

    return checked


class Unpickler(_pickle._Unpickler):
    """Python's own slow unpickler: its memo is a dictionary, where the fast one's grows to the largest index named."""

    dispatch: ClassVar[dict[int, Callable]] = dict(_pickle._Unpickler.dispatch)

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__(stream, encoding="utf-8", errors="replace")
        self._path = path
        self._classes: dict[tuple[str, str], type[StandIn]] = {}

    def _bounded_read(self, size: int) -> bytes:
        """Memory is taken before a file turns out to be shorter."""
        return self._file_read(size) if size <= MAX_PICKLE else b""

    def load(self) -> Any:
        """The content of one pickle."""
        self._unframer = _pickle._Unframer(self._bounded_read, self._file_readline)
        self.read, self.readinto = self._unframer.read, self._unframer.readinto
        self.readline = self._unframer.readline
        self.metastack: list[list] = []
        self.stack: list[Any] = []
        self.proto = 0
        self.append = self.stack.append
        for _ in range(MAX_OPCODES):
            key = self.read(1)
            if not key:
                raise EOFError
            try:
                self.dispatch[key[0]](self)
            except _pickle._Stop as stop:
                return stop.value
        raise CheckpointError(f"The checkpoint {self._path} holds a pickle without an end; ask for the weights alone.")

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global: a function of this module, a type of number, or a stand-in; nothing is imported."""
        if len(module) + len(name) > MAX_NAME:
            raise pickle.UnpicklingError("a class with a name of a thousand letters")
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
        if (module, name) not in self._classes:
            if len(self._classes) >= MAX_CLASSES:
                raise pickle.UnpicklingError("thousands of classes")
            self._classes[module, name] = type("StandIn", (StandIn,), {"named": f"{module}.{name}", "__slots__": ()})
        return self._classes[module, name]

    def persistent_load(self, pid: Any) -> Storage | StandIn:
        """The storage that a reference names."""
        kind, dtype, key, _, numel = pid[:5]
        if isinstance(dtype, type) and issubclass(dtype, StandIn):
            return dtype()  # quantized or complex numbers
        if isinstance(key, int):  # as the key of the older layout may be
            key = str(key)
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        if not isinstance(numel, int) or numel < 0 or pid[5:] not in ((), (None,)):
            raise pickle.UnpicklingError("a storage that is part of another one")
        return Storage(dtype, key, numel)

    def _call(self, maker: Any, arguments: Sequence[Any]) -> Any:
        """Only functions of this module are ever called."""
        if isinstance(maker, type) and issubclass(maker, StandIn):
            return maker(arguments)
        if len(arguments) > 8 or not any(maker is known for known in _KNOWN.values()):
            raise pickle.UnpicklingError("a call of something else than a class")
        return maker(*arguments)

    def _instantiate(self, maker: Any, arguments: Sequence[Any]) -> None:  # for the opcodes INST and OBJ
        self.append(self._call(maker, arguments))

    def _reduce(self) -> None:
        arguments, maker = self.stack.pop(), self.stack.pop()
        self.append(self._call(maker, arguments))

    def _newobj_ex(self) -> None:
        keywords, arguments, maker = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.append(self._call(maker, (keywords, *arguments[:4])))

    def _build(self) -> None:
        """State goes to stand-ins only; any other object is left as it is."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], StandIn):
            self.stack[-1].keep(state)

    def _setitem(self) -> None:
        _check_key(self.stack[-2])
        self.load_setitem()

    def _bytearray(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(min(size, MAX_PICKLE)))

    dispatch |= {
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _setitem,
        pickle.BYTEARRAY8[0]: _bytearray,
        pickle.SETITEMS[0]: _with_keys(_pickle._Unpickler.load_setitems, 2),
        pickle.DICT[0]: _with_keys(_pickle._Unpickler.load_dict, 2),
        pickle.ADDITEMS[0]: _with_keys(_pickle._Unpickler.load_additems, 1),
        pickle.FROZENSET[0]: _with_keys(_pickle._Unpickler.load_frozenset, 1),
    }
    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):  # a registry of classes that no file of PyTorch uses
        del dispatch[_code[0]]


_KNOWN: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): lambda: {},
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
}
