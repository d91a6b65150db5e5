"""A loader of our own that fails in every way: each case has to be reported, or the other loaders prove nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from random import Random

from iood_helpers.errors import IoodError

from ..cases import Case, Implausible


def prepare(folder: Path) -> dict:
    return {"next": 0}


def make(material: dict, rng: Random, folder: Path) -> Case:
    (folder / "file").write_text("x")
    ways = list(WAYS)
    way = ways[material["next"] % len(ways)]
    material["next"] += 1
    load = WAYS[way]
    check = _refuse if way == "implausible" else lambda _: None
    return Case(way, ("file",), lambda: load(folder), check)


def _refuse(_: object) -> None:
    raise Implausible("it cannot be")


def _raise(error: Exception) -> None:
    raise error


def _spin(folder: Path) -> None:
    import time

    began = time.process_time()
    while time.process_time() - began < 1.5:
        pass


def _refuse_late(folder: Path) -> None:
    try:
        bytearray(3 * 2**30)
    except MemoryError as error:
        raise IoodError("The file is damaged.") from error


def _swallow(folder: Path) -> None:
    try:
        os.system("true")
    except BaseException:
        return


WAYS = {
    "fine": lambda folder: None,
    "refused": lambda folder: _raise(IoodError("The file is damaged.")),
    "foreign": lambda folder: _raise(KeyError("x")),
    "nameless": lambda folder: _raise(IoodError("Something is damaged.")),
    "implausible": lambda folder: 1,
    "system": lambda folder: os.system("true"),
    "swallowed": _swallow,
    "program": lambda folder: subprocess.run([sys.executable, "-c", ""]),
    "network": lambda folder: socket.create_connection(("127.0.0.1", 9)),
    "outside": lambda folder: (folder.parent / "other").write_text("x"),
    "secret": lambda folder: (folder.parent / "secret").read_text(),
    "changed": lambda folder: (folder / "file").write_text("longer"),
    "late": _refuse_late,
    "memory": lambda folder: bytearray(3 * 2**30),
    "slow": _spin,
    "crash": lambda folder: os.abort(),
}
