"""Limits on one case: what it may do, how long, and with how much memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GIBIBYTE = 2**30
_STATM = Path("/proc/self/statm")
_STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen")
_TALKS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "webbrowser.open")
_RUNS = ("pickle.find_class", "ctypes.dlopen", "cpython.run_command", "marshal.loads")
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.link")
_CHANGES += ("os.symlink", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """Something that no file may make the package do; not an ``Exception``, so that nothing swallows it."""


class Guard:
    """Watches this process by an audit hook while it is armed.

    Parameters
    ----------
    places
        The only folders where anything may be written.
    secret
        A file outside of it that must not be opened.
    """

    def __init__(self, places: tuple[Path, ...], secret: Path) -> None:
        self._places = tuple(os.path.realpath(place) for place in places)
        self._secret = os.path.realpath(secret)
        self._armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple) -> None:
        if not self._armed:
            return
        if event == "open":
            self._opened(*arguments)
        elif event in _STARTS or event in _TALKS or (event in _RUNS and not _is_import()):
            self._report(f"{event} {arguments!r}")
        elif event in _CHANGES:
            for path in arguments[: 2 if event in ("os.rename", "os.link", "shutil.move") else 1]:
                if isinstance(path, str | bytes | os.PathLike) and not self._inside(path):
                    self._report(f"{event} {arguments!r}")

    def _opened(self, path: Any, mode: str | None, flags: int | None) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITING)
        if writes and os.fsdecode(path) != os.devnull and not self._inside(path):
            self._report(f"open for writing {path!r}")
        if self._real(path) == self._secret:
            self._report(f"open {path!r}, which leads out of the folder")

    def _real(self, path: Any) -> str:
        try:
            return os.path.realpath(os.fsdecode(path))
        except (OSError, ValueError):
            return ""

    def _inside(self, path: Any) -> bool:
        real = self._real(path)
        return any(real == place or real.startswith(place + os.sep) for place in self._places)

    def _report(self, what: str) -> None:
        self.seen.append(what[:300])
        raise Forbidden(what[:300])

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Watch while the block runs."""
        self.seen.clear()
        self._armed = True
        try:
            yield
        finally:
            self._armed = False


def _is_import() -> bool:
    """Whether the import system is at work, which unmarshals code and opens libraries."""
    frame = sys._getframe(2)
    while frame is not None:
        if "importlib" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


@contextmanager
def limited_memory(extra: int) -> Iterator[None]:
    """Let allocations fail beyond ``extra`` bytes more than now; where the system counts no pages, no limit."""
    if not _STATM.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(_STATM.read_text().split()[0]) * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measured(function: Callable[[], Any]) -> tuple[Any, BaseException | None, float]:
    """Result or exception of a call, and the processor seconds of all threads meanwhile."""
    began = time.process_time()
    try:
        return function(), None, time.process_time() - began
    except BaseException as error:
        return None, error, time.process_time() - began
