"""Files appear whole or not at all, and say why where they cannot."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors.numpy import save_file

from iood_helpers.errors import FileError
from iood_helpers.io import plain, write_atomically, write_json


@contextmanager
def tiny_files():
    """No file may be longer than five bytes, which fails as a full disk does.

    For the statement alone: the test runner's own output may go to a file.
    """
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("more than five bytes"),
        lambda path: save_file({"a": np.zeros(99)}, path),
    ],
)
def test_a_full_disk(tmp_path, write):
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(FileError, match=r"a\.bin cannot be written \(.*File too large"), tiny_files():
        write_atomically(tmp_path / "a.bin", write)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.bin", b"old")]


def test_json_on_a_full_disk(tmp_path):
    with pytest.raises(FileError, match=r"a\.json cannot be written"), tiny_files():
        write_json(tmp_path / "a.json", {"some": "thing"})
    assert not list(tmp_path.iterdir())


def test_something_in_the_way(tmp_path):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder.json", tmp_path / "file" / "a.json", tmp_path / ("a" * 300)):
        with pytest.raises(FileError, match=r"cannot be written .* permissions or choose another place"):
            write_json(path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.json"]


def test_a_folder_without_permission(tmp_path, monkeypatch):
    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", forbidden)
    with pytest.raises(FileError, match=r"a\.json cannot be written \(Permission denied\)"):
        write_json(tmp_path / "a.json", 1)
    assert not list(tmp_path.iterdir())


def test_errors_of_other_files_and_kinds_come_through(tmp_path):
    with pytest.raises(FileNotFoundError, match="source"):
        write_atomically(tmp_path / "a", lambda path: path.write_bytes((tmp_path / "source").read_bytes()))
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", lambda path: path.write_bytes(bytes(1 // 0)))
    assert not list(tmp_path.iterdir())


def test_leftovers_of_the_dead_are_swept_and_nothing_else(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {
        f".a.{gone.pid}.tmp.json": False,  # of a process that is gone
        f".a.{os.getppid()}.tmp.json": True,  # of one that lives
        f".b.{gone.pid}.tmp.json": True,  # of another file
        f".a.{gone.pid}.tmp.tar": True,
        f"a.{gone.pid}.tmp.json": True,
        f".a.x{gone.pid}.tmp.json": True,
        ".a.99999999999999999999.tmp.json": True,
    }
    for name in names:
        (tmp_path / name).write_text("")
    write_json(tmp_path / "a.json", 1)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_numbers_of_numpy_become_pythons(tmp_path):
    content = {"a": np.int64(3), "b": np.float32(0.5), "c": np.arange(2), "d": np.bool_(True), "e": (1, None)}
    assert plain(content) == {"a": 3, "b": 0.5, "c": [0, 1], "d": True, "e": [1, None]}
    assert (
        write_json(tmp_path / "a.json", content).read_text() == write_json(tmp_path / "b", plain(content)).read_text()
    )
    with pytest.raises(TypeError, match="set is not a plain value"):
        plain({1, 2})
