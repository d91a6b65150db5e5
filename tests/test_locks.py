"""Locks keep a second writer out, say who holds them, and die with their holder."""

import os
import signal
import subprocess
import sys

import pytest

from iood_helpers.errors import FileError, LockedError
from iood_helpers.io import exclusive

HOLDER = """
import sys, time
from iood_helpers.io import exclusive
with exclusive(sys.argv[1], "The store"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_told_who_holds(tmp_path):
    again, refused = exclusive(tmp_path / "lock", "The store x"), pytest.raises(LockedError, match=str(os.getpid()))
    with exclusive(tmp_path / "lock", "The store x"), refused, again:
        pass
    with exclusive(tmp_path / "lock", "The store x"):
        pass  # free again


def test_dies_with_its_holder(tmp_path):
    lock = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=str(process.pid)), exclusive(lock, "The store"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with exclusive(lock, "The store"):
        pass


def test_names_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match="missing"), exclusive(tmp_path / "missing" / "lock", "The store"):
        pass
