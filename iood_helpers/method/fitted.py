"""Files of fitted models: arrays as safetensors, and plain values as JSON in their header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from ..io import plain, write_atomically


def save_fitted(path: str | Path, kind: str, arrays: Mapping[str, np.ndarray], **content: Any) -> Path:
    """Write a model; the same model gives the same bytes.

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str
        Name of the model's class.
    arrays : mapping of str to numpy.ndarray
        What has been fitted.
    **content
        Plain values.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"kind": kind} | {name: json.dumps(plain(value), sort_keys=True) for name, value in content.items()}
    data = _sorted_header(save(arrays, metadata={**metadata, "sha256": _digest(arrays, metadata)}))
    return write_atomically(path, lambda temporary: temporary.write_bytes(data))


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 of all that is in a file."""
    content = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        content.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return content.hexdigest()


def _sorted_header(data: bytes) -> bytes:
    """The same file with the names of its header in order: safetensors leaves their order to chance."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def load_fitted(path: str | Path, kind: str, content: tuple[str, ...]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain values that :func:`save_fitted` wrote; their meaning is left to the caller to check.

    Raises
    ------
    ValueError
        If the file cannot be read, is damaged, or holds another kind of model.
    """
    try:
        with safe_open(str(Path(path).expanduser()), "numpy") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("kind") != kind:
                raise ValueError(f"it holds a {metadata.get('kind')}")
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        known = metadata.pop("sha256", None)  # files of other programs have none
        if known is not None and known != _digest(arrays, metadata):
            raise ValueError("it has changed since it was written")
        values = {name: json.loads(metadata[name]) for name in content}
    except Exception as error:  # safetensors raises more kinds than it names, for damaged headers and foreign types
        raise ValueError(str(error)) from error
    return arrays, values
