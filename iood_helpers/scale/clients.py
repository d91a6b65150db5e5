"""Where work is done, and the network there: one in each process, whose weights are read once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from ..errors import IoodError, ScaleError

if TYPE_CHECKING:
    from ..model.precision import Choice
    from ..model.segmenter import Head, Prediction, Segmenter

REMEDY = "more than one process needs the extra [scale]: pip install '.[scale]' in the checkout"
SECONDS_TO_CONNECT = 30
PLUGIN = "iood-network"
_HERE: dict[Network, Segmenter] = {}
_LOCK = RLock()


@dataclass(frozen=True)
class Network:
    """How each process gets its network: arguments of :func:`.load_segmenter`.

    Attributes
    ----------
    source, checkpoint : str
        Names, addresses, or paths that all workers can read.
    head, device, precision
        As for ``load_segmenter``; with ``device="auto"`` each worker takes the GPU that it sees, if any. The precision
        ``"auto"`` is decided where the network is described, or workers would mix precisions.
    """

    source: str = "nano"
    checkpoint: str | None = None
    head: Head = "classes"
    device: str = "auto"
    precision: Choice = "float32"

    def __post_init__(self) -> None:
        if self.precision == "auto":
            from ..model.precision import chosen_device, chosen_precision

            object.__setattr__(self, "precision", chosen_precision("auto", chosen_device(self.device)))

    def segmenter(self) -> Segmenter:
        """The segmenter of this process, built when first asked for; one for another network takes its place.

        Raises
        ------
        CheckpointError
            As ``load_segmenter`` does.
        """
        from ..model.segmenter import load_segmenter

        with _LOCK:  # two threads would read the weights twice
            if self not in _HERE:
                _HERE.clear()
                options: dict[str, Any] = {"head": self.head, "device": self.device, "precision": self.precision}
                _HERE[self] = load_segmenter(self.source, self.checkpoint, **options)
            return _HERE[self]

    def predict(self, image: Any) -> Prediction:
        """As ``Segmenter.predict``, one image at a time in each process: threads share weights, not memory for maps."""
        with _LOCK:
            return self.segmenter().predict(image)


@contextmanager
def connected(client: Any = None) -> Iterator[Any]:
    """A Dask client for what was given as ``client=``.

    Parameters
    ----------
    client : None, str, Client or cluster
        None for this process (gives None); the address of a scheduler (``"tcp://10.0.0.1:8786"``); a
        ``distributed.Client``; or a cluster (``LocalCluster``, ``SLURMCluster``, ``LocalCUDACluster``). What is opened
        here is closed at the end of the block; clients and clusters that were given stay open.

    Raises
    ------
    ScaleError
        If Dask is not installed (the message names the extra), no scheduler answers, or it is none of these.
    """
    if client is None:
        yield None
        return
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ScaleError(f"{error}; {REMEDY}.") from error
    if isinstance(client, distributed.Client):
        yield client
        return
    if not isinstance(client, str) and not hasattr(client, "scheduler_address"):
        raise ScaleError(f"client= is None, an address, a Client or a cluster of Dask, not {client!r}.")
    try:
        opened = distributed.Client(client, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError, ImportError) as error:
        raise ScaleError(f"No scheduler answers at {client} ({error}); start one with: dask scheduler.") from error
    with opened:
        yield opened


def load_everywhere(client: Any, network: Network) -> None:
    """Let every worker, those that come later, too, read the weights of a network before its first task.

    Raises
    ------
    CheckpointError
        If the weights cannot be loaded there.
    """
    from distributed import WorkerPlugin

    class NetworkPlugin(WorkerPlugin):
        """Holds one network in a worker."""

        name = PLUGIN  # one for another network takes its place

        async def setup(self, worker: Any) -> None:  # noqa: ARG002 (the signature is Dask's)
            await asyncio.to_thread(network.segmenter)  # meanwhile the worker answers its scheduler

    try:
        client.register_plugin(NetworkPlugin())
    except IoodError:
        client.unregister_worker_plugin(PLUGIN)  # or no worker could start any more
        raise


def checked_tree(tree: str | Path) -> Path:
    """A folder of files that all workers reach, absolute."""
    if "://" in str(tree):
        raise ScaleError(f"Predictions are files in a folder that all workers reach, not at {tree}; give a path.")
    return Path(tree).expanduser().absolute()
