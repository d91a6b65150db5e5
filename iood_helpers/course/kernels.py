"""One notebook in a kernel of its own: its environment, its memory, its end.

papermill executes; this module gives the kernel this interpreter and an environment (the caller keeps its own),
watches its memory, and ends it when the caller is interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from jupyter_client.manager import AsyncKernelManager

from ..errors import NotebookError

POLL_SECONDS = 0.2
MIB = 2**20


@dataclass
class Usage:
    """What a notebook used: peak resident memory of its kernel in bytes, and forward passes of segmenters."""

    peak_bytes: int = 0
    passes: int = 0


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    cwd: Path,
    environment: Mapping[str, str],
) -> Usage:
    """Execute a notebook and write the executed copy.

    Parameters
    ----------
    notebook, output : Path
        Source and executed copy; the copy is written also if a cell fails.
    parameters : Mapping
        Values for its ``parameters`` cell.
    cwd : Path
        Folder in which it runs.
    environment : Mapping of str to str
        Variables for the kernel, on top of those of this process, which stay as they are.

    Returns
    -------
    Usage

    Raises
    ------
    NotebookError
        If a cell raises an error, or the kernel ends before its time (mostly for lack of memory).
    """
    pids: list[int] = []
    usage = Usage()
    failure: list[BaseException] = []
    with TemporaryDirectory(prefix="iood-") as scratch:
        log = Path(scratch) / "passes"
        variables = {**os.environ, **environment, "IOOD_PASS_LOG": str(log)}

        def work() -> None:
            try:
                _papermill(notebook, output, parameters, cwd, _manager(variables, pids))
            except BaseException as error:
                failure.append(error)

        # A thread, so that signals reach this one while papermill waits.
        thread = threading.Thread(target=work, name=f"papermill {notebook.stem}", daemon=True)
        with _signals_kept() as handle:
            thread.start()
            try:
                while thread.is_alive():
                    thread.join(POLL_SECONDS)
                    usage.peak_bytes = max(usage.peak_bytes, peak_memory(pids[-1]) if pids else 0)
                    handle()
            except BaseException:
                _end(pids, thread)
                raise
        usage.passes = log.read_text(encoding="utf-8").count("\n") if log.is_file() else 0
    if failure:
        raise _explained(failure[0], notebook.stem, output, usage) from failure[0]
    return usage


@contextlib.contextmanager
def _signals_kept() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM wait until the function that this gives is called.

    An exception out of a signal handler is lost where Python happens to collect garbage at that moment, and much of
    what it interrupts is not written for it.
    """
    came: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        handlers = {number: handler for number, handler in handlers.items() if callable(handler)}

    def handle() -> None:
        if came:
            handlers[came[-1]](came.pop(), None)

    for number in handlers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield handle
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        handle()


def _manager(variables: dict[str, str], pids: list[int]) -> type[AsyncKernelManager]:
    """Kernel manager that starts this interpreter with an environment, and adds its process to ``pids``."""

    class Manager(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file]
            return command + (extra_arguments or [])

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # typed as the blocking one
            await super().start_kernel(**{**options, "env": dict(variables)})
            pids.append(self.provisioner.pid)  # type: ignore[union-attr]  # a process of this machine

    return Manager


def _papermill(notebook: Path, output: Path, parameters: Mapping[str, Any], cwd: Path, manager: type) -> None:
    # Imported here: papermill takes a second, and --list or a wrong profile should answer at once.
    import papermill

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=dict(parameters),
            kernel_name="python3",
            kernel_manager_class=manager,
            cwd=str(cwd),
            progress_bar=sys.stderr.isatty(),
            log_output=False,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # no notices of the kernel between the names
        )


def peak_memory(pid: int) -> int:
    """Largest resident memory of a process so far in bytes (of now, where the system does not keep it); 0 if gone."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).memory_info().rss
    return 0


def _end(pids: list[int], thread: threading.Thread, seconds: float = 3.0) -> None:
    """Kill the kernel and what it started (it leads a process group of its own), until ``thread`` has noticed.

    A kernel that was about to start when the signal came is killed as soon as it is there.
    """
    end = time.monotonic() + seconds
    while True:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        thread.join(0.05)
        if not thread.is_alive() or time.monotonic() > end:
            return


def _explained(error: BaseException, name: str, output: Path, usage: Usage) -> BaseException:
    import papermill
    from nbclient.exceptions import DeadKernelError

    if isinstance(error, papermill.PapermillExecutionError):
        return NotebookError(
            f"{name}, cell {error.exec_count}:\n\n{error.source}\n\n{error.ename}: {error.evalue}\n\n"
            f"The executed copy is {output}."
        )
    if isinstance(error, DeadKernelError | RuntimeError) and "ernel died" in str(error):
        there = psutil.virtual_memory().total / MIB
        return NotebookError(
            f"{name}: its kernel ended before the notebook did, most likely for lack of memory: it had used "
            f"{usage.peak_bytes / MIB:.0f} MiB when last seen, of {there:.0f} MiB in this machine. "
            "Close other programs, or lower limit, study_limit or n_per_class."
        )
    return error
