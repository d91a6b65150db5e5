"""The submission file, encoded by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ..bravo.submission import encode_submission
from .clients import checked_tree, connected
from .tasks import in_order, run

AHEAD = 256
"""Images whose samples are in memory at a time."""


def encode(
    tree: str | Path, samples_tar: str | Path, out_tar: str | Path, *, client: Any = None, progress: bool = True
) -> Path:
    """Pack a tree of predictions for the server: the bytes of ``encode_submission``, encoded by workers.

    Parameters
    ----------
    tree, samples_tar, out_tar, progress
        As for ``encode_submission``; workers must reach the tree.
    client : None, str, Client or cluster
        As for :func:`~iood_helpers.scale.clients.connected`.

    Raises
    ------
    SubmissionError
        As ``encode_submission`` does.
    """
    with connected(client) as workers:
        spread = map if workers is None else partial(_spread, workers)
        return encode_submission(checked_tree(tree), samples_tar, out_tar, progress=progress, spread=spread)


def _spread(client: Any, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
    """What ``map`` gives, from workers: some hundred items at a time, in order."""
    rest = iter(items)
    while some := list(islice(rest, AHEAD)):
        yield from in_order(run(function, some, client=client))
