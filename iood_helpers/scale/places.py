"""Files at any address that fsspec knows: a folder, ``memory://``, ``s3://`` and others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fsspec
import zarr
from zarr.storage import FsspecStore, LocalStore

from ..errors import FileError, ScaleError
from ..io import exclusive, write_json


@dataclass(frozen=True)
class Place:
    """A folder at an address, as plain values that can be sent to a worker.

    Attributes
    ----------
    address : str
        A path, or an address with a protocol.
    options : mapping of str to object
        What fsspec needs to reach it (``endpoint_url`` and so on); never written anywhere.
    """

    address: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, address: str | Path, options: Mapping[str, Any] | None = None) -> Place:
        """The place of an address; paths are made absolute, since workers run elsewhere."""
        text = str(address).removeprefix("file://")
        if "://" not in text:
            text = str(Path(text).expanduser().absolute())
        return cls(text.rstrip("/"), dict(options or {}))

    @property
    def path(self) -> Path | None:
        """The folder, if it is one of this machine."""
        return None if "://" in self.address else Path(self.address)

    def read_json(self, name: str) -> Any:
        """Content of a JSON file below this place; None if there is none.

        Raises
        ------
        ScaleError
            If it is damaged, or the place cannot be reached.
        """
        try:
            with fsspec.open(f"{self.address}/{name}", "rb", **self.options) as stream:
                return json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ImportError as error:
            raise ScaleError(f"The place {self.address} needs another package ({error}); install it.") from error
        except Exception as error:  # as many kinds as there are file systems
            raise ScaleError(f"The file {self.address}/{name} cannot be read ({error}); check the place.") from error

    def write_json(self, name: str, content: Any) -> None:
        """Put a JSON file there, whole or not at all: by a rename, or in one piece where there are no folders.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        if self.path is not None:
            write_json(self.path / name, content)
            return
        try:
            with fsspec.open(f"{self.address}/{name}", "wb", **self.options) as stream:
                stream.write(json.dumps(content, sort_keys=True).encode())
        except Exception as error:  # as many kinds as there are file systems
            raise FileError(f"The file {self.address}/{name} cannot be written ({error}); check the place.") from error

    def group(self, name: str, mode: Literal["r", "r+", "w"]) -> zarr.Group:
        """A Zarr group below this place; ``mode`` as zarr has it."""
        if self.path is not None:
            store: Any = LocalStore(self.path / name, read_only=mode == "r")
        else:
            address, options = f"{self.address}/{name}", dict(self.options)
            store = FsspecStore.from_url(address, storage_options=options, read_only=mode == "r")
        return zarr.open_group(store, mode=mode)

    def claimed(self) -> AbstractContextManager[None]:
        """The lock of a folder of this machine; object stores have none: there, start one run at a time."""
        if self.path is None:
            return nullcontext()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"The folder {self.path} cannot be made ({error.strerror}); choose another place."
            ) from error
        return exclusive(self.path / ".lock", f"The store {self.path}")
