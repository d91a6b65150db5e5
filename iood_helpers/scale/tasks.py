"""Items one by one, here or on Dask: a fixed number under way, so that memory does not grow with their number."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from tqdm.auto import tqdm

from ..errors import IoodError, ScaleError

OnError = Literal["stop", "skip"]
PER_THREAD = 2
"""Tasks under way for each thread of the workers: one at work, one waiting, so that none is idle."""
SECONDS_BETWEEN_LOOKS = 5.0
"""How often the number of workers is asked for: clusters grow and shrink."""
_NUMBERS = count()
GONE = "The scheduler is gone; start it, and then the same step again: what is done counts."


@dataclass(frozen=True)
class Failure:
    """An item that was skipped.

    Attributes
    ----------
    index : int
        Its place among the items.
    name : str
        What it is called.
    reason : str
        The error's message.
    """

    index: int
    name: str
    reason: str


def run(
    function: Callable[..., Any],
    items: Sequence[Any],
    *,
    client: Any = None,
    shared: Sequence[Any] = (),
    in_flight: int | None = None,
    on_error: OnError = "stop",
    failures: list[Failure] | None = None,
    what: str | None = None,
) -> Iterator[tuple[int, Any]]:
    """Apply a function to each item, in this process or on Dask; results come as they are done.

    A worker that ends (killed, out of memory, a machine switched off) loses nothing: its items are done again by
    others. An item that ends workers again and again is a failure, told from those that were only beside it by running
    each alone at the end.

    Parameters
    ----------
    function : callable
        Called as ``function(item, *shared)``; must be one that can be sent (defined in a module), and may be called
        twice for an item whose worker ended.
    items : sequence
        Small ones: names and places, not pixels.
    client : distributed.Client, optional
        None for this process, one item after another.
    shared : sequence
        Large arguments that are the same for all; each is sent to a worker once.
    in_flight : int, optional
        Most items under way at once; default two for each thread of the workers.
    on_error : {"stop", "skip"}
        What an :class:`~iood_helpers.errors.IoodError` (an image that cannot be read) or a worker's end does: it is
        raised, or the item is skipped. Errors of other kinds are always raised.
    failures : list, optional
        Gets a :class:`Failure` for each item that is skipped.
    what : str, optional
        Label of a progress bar; None for no bar.

    Yields
    ------
    tuple of int and object
        Index and result of an item.

    Raises
    ------
    ScaleError
        If the scheduler is gone, or an item ends its workers.
    IoodError
        What the function raises.
    """
    if on_error not in ("stop", "skip"):
        raise ScaleError(f"on_error is 'stop' or 'skip', not {on_error!r}.")
    if in_flight is not None and in_flight < 1:
        raise ScaleError(f"At least one task has to be under way, not in_flight={in_flight!r}.")
    done = _here(function, items, shared) if client is None else _on_dask(function, items, client, shared, in_flight)
    # closed, or a traceback that somebody keeps would keep tasks under way
    with closing(done), tqdm(total=len(items), desc=what, disable=what is None) as bar:
        for index, result, error in done:
            bar.update()
            if error is None:
                yield index, result
            elif on_error == "stop" or not isinstance(error, IoodError):
                raise error
            elif failures is not None:
                failures.append(Failure(index, name_of(items[index]), str(error)))


def in_order(results: Iterable[tuple[int, Any]]) -> Iterator[Any]:
    """Results of :func:`run` in the order of the items; those that came too early wait."""
    early: dict[int, Any] = {}
    following = 0
    for index, result in results:
        early[index] = result
        while following in early:
            yield early.pop(following)
            following += 1


def name_of(item: Any) -> str:
    """What an item is called in messages."""
    parts = item if isinstance(item, tuple) else (item,)
    return next((str(part.name) for part in parts if hasattr(part, "name")), str(item))


Done = tuple[int, Any, BaseException | None]


def _here(function: Callable[..., Any], items: Sequence[Any], shared: Sequence[Any]) -> Generator[Done, None, None]:
    for index, item in enumerate(items):
        try:
            result = function(item, *shared)
        except IoodError as error:
            yield index, None, error
        else:
            yield index, result, None


def _on_dask(
    function: Callable[..., Any], items: Sequence[Any], client: Any, shared: Sequence[Any], in_flight: int | None
) -> Generator[Done, None, None]:
    # Tasks that give back what they were sent, and no scattered data: lost with its worker, it is made again.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        sent = [client.submit(itself, value, pure=False) for value in shared]
    suspects: list[int] = []
    for index, result, error in _flow(function, items, range(len(items)), client, sent, in_flight):
        if error is not None and _ended_workers(error):
            suspects.append(index)  # or it was only beside one that did
        else:
            yield index, result, error
    for suspect in suspects:
        for index, result, error in _flow(function, items, [suspect], client, sent, 1):
            if error is not None and _ended_workers(error):
                error = ScaleError(
                    f"The item {name_of(items[index])} ended its worker processes; give them more memory, or leave it "
                    "out (on_error='skip')."
                )
            yield index, result, error


def _flow(
    function: Callable[..., Any],
    items: Sequence[Any],
    indices: Iterable[int],
    client: Any,
    sent: Sequence[Any],
    in_flight: int | None,
) -> Generator[Done, None, None]:
    """Results as they come; whatever is under way when the caller stops is called back."""
    from distributed import as_completed

    waiting, completed = deque(indices), as_completed(loop=client.loop)
    under_way: dict[Any, int] = {}
    run_number, name = next(_NUMBERS), getattr(function, "__name__", "task").strip("_")
    limit, looked = in_flight or PER_THREAD, 0.0
    try:
        while waiting or under_way:
            if in_flight is None and time.monotonic() - looked > SECONDS_BETWEEN_LOOKS:
                with talking(client):
                    limit = PER_THREAD * max(1, sum(client.nthreads().values()))
                looked = time.monotonic()
            while waiting and len(under_way) < limit:
                index = waiting.popleft()
                key = f"{name}-{client.id}-{run_number}-{index}"
                with talking(client):
                    future = client.submit(function, items[index], *sent, key=key, pure=False)
                under_way[future] = index
                completed.add(future)
            future = next(completed)
            index = under_way.pop(future)
            with talking(client):
                outcome = _outcome(future, index)
            yield outcome
            future.release()
    finally:
        for future in under_way:
            future.release()  # a task whose result nobody holds is called back


def _outcome(future: Any, index: int) -> Done:
    if future.status == "error":
        return index, None, future.exception()
    return index, future.result(), None  # or FutureCancelledError; a result lost with its worker is waited for


@contextmanager
def talking(client: Any) -> Iterator[None]:
    """What fails in the block fails because the scheduler is gone, if it is: then ScaleError says so."""
    from distributed.client import FutureCancelledError

    try:
        yield
    except FutureCancelledError as error:
        raise ScaleError(GONE) from error
    except Exception as error:
        if isinstance(error, IoodError) or client.status == "running":
            raise
        raise ScaleError(GONE) from error


def _ended_workers(error: BaseException) -> bool:
    from distributed import KilledWorker

    return isinstance(error, KilledWorker)


def itself(value: Any) -> Any:
    """The value: a task that holds it."""
    return value
