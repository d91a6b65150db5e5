"""Embeddings of a split by several processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..method.draw import draw_parameters, draw_rows
from ..method.embedder import PixelEmbedder
from ..method.levels import Level
from ..method.progress import fingerprint
from .clients import Network, connected, load_everywhere
from .places import Place
from .shards import ShardedStore, write_rows
from .tasks import Failure, OnError, in_order, run

if TYPE_CHECKING:
    from ..datasets.loading import Dataset
    from ..datasets.samples import Sample

BLOCK = 64
"""Images whose files one task reads for their checksums."""
SECONDS_BETWEEN_COMMITS = 2.0
"""What a run that is killed does again, at most."""


def extract(
    network: Network,
    dataset: Dataset,
    embedder: PixelEmbedder,
    address: str | Path,
    *,
    client: Any = None,
    on_error: OnError = "stop",
    in_flight: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool = True,
    **draw: Any,
) -> ShardedStore:
    """Draw pixels of every class over all images of a split, as :func:`.extract_embeddings` does.

    Each image is a task that reads it, predicts, and writes chunks of its own. Interrupted and started again, it goes
    on where it was. The rows are those of ``extract_embeddings``; to the last bit on the same processor with the same
    number of threads.

    Parameters
    ----------
    network : Network
        What predicts, in each worker.
    dataset : Dataset
        On which images; workers must reach their files under the same paths.
    embedder : PixelEmbedder
        How vectors are made.
    address : str or Path
        Where the store shall be: a folder that all workers reach, or an address of fsspec (``s3://bucket/name``).
    client : None, str, Client or cluster
        As for :func:`~iood_helpers.scale.clients.connected`.
    on_error : {"stop", "skip"}
        Whether an image that cannot be read, or ends its workers, stops the run, or is left out and listed in
        ``ShardedStore.skipped``. With "stop", images that were skipped before are tried again.
    in_flight : int, optional
        Most images under way at once; default two for each thread of the workers.
    storage_options : mapping, optional
        What fsspec needs to reach the address.
    progress : bool, default=True
        Whether to show a bar.
    **draw
        ``n_per_class``, ``per``, ``oversampling`` and ``seed``, as for ``extract_embeddings``.

    Raises
    ------
    EmbeddingError, DatasetError, CheckpointError
        As ``extract_embeddings`` does.
    LockedError
        If another run extracts into the same folder.
    ScaleError
        If Dask is missing, its scheduler is gone, or an image ends its workers.
    """
    place = Place.of(address, storage_options)
    with connected(client) as workers, place.claimed():
        if workers is not None:
            load_everywhere(workers, network)
        blocks = [dataset[start : start + BLOCK] for start in range(0, len(dataset), BLOCK)]
        images = [image for block in in_order(run(fingerprint, blocks, client=workers)) for image in block]
        # a worker tells, so that this process needs no network
        [(_, (checkpoint, precision, widths))] = run(described, [network], client=workers, shared=[embedder])
        parameters = draw_parameters(dataset, embedder, checkpoint=checkpoint, precision=precision, **draw)
        store = ShardedStore.open_or_create(place, widths, parameters, images)
        todo = (
            store.pending if on_error == "stop" else [i for i in store.pending if store.names[i] not in store.skipped]
        )
        if todo or not store.is_complete:
            items = [(index, dataset[index]) for index in todo]
            failures: list[Failure] = []
            done = run(
                extract_image,
                items,
                client=workers,
                shared=(network, embedder, place, widths, parameters),
                in_flight=in_flight,
                on_error=on_error,
                failures=failures,
                what="extract" if progress else None,
            )
            _commit_all(store, done, todo, failures)
    return store


def extract_image(
    item: tuple[int, Sample],
    network: Network,
    embedder: PixelEmbedder,
    place: Place,
    widths: Mapping[Level | str, int],
    parameters: Mapping[str, Any],
) -> int:
    """Draw and write the rows of one image, given as its number and itself; gives how many there are."""
    index, sample = item
    rng = np.random.default_rng((parameters["sample_seed"], index))
    prediction = network.predict(sample.image())
    rows = draw_rows(prediction, sample.label(), embedder, parameters["share"], parameters["per"], rng)
    return write_rows(place, index, sample.name, widths, rows)


def described(network: Network, embedder: PixelEmbedder) -> tuple[str, str, dict[Level | str, int]]:
    """Checksum and precision of a network, and the widths of its vectors, told by a small image."""
    prediction = network.predict(np.zeros((64, 64, 3), np.uint8))
    segmenter = network.segmenter()
    return segmenter.checkpoint.sha256, segmenter.precision, embedder.widths(prediction)


def _commit_all(store: ShardedStore, done: Any, todo: list[int], failures: list[Failure]) -> None:
    """Count what is done every two seconds and at the end, also where that is an error."""
    rows: dict[int, int] = {}
    last = time.monotonic()
    complete = False
    try:
        for position, number in done:
            rows[todo[position]] = number
            if time.monotonic() - last > SECONDS_BETWEEN_COMMITS:
                store.commit(rows)
                rows, last = {}, time.monotonic()
        complete = True
    finally:
        store.commit(rows, {todo[failure.index]: failure.reason for failure in failures}, complete)
