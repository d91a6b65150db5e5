"""One crowd of worker processes for all tests of the room: each takes seconds to start."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="package")
def cluster():
    """Two worker processes of one thread; a worker that an image ends counts at once."""
    dask = pytest.importorskip("dask")
    from distributed import LocalCluster

    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.memory.terminate": False}
    with dask.config.set(settings), LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as found:
        yield found


@pytest.fixture(scope="package")
def client(cluster):
    from distributed import Client

    with Client(cluster) as found:
        yield found


@pytest.fixture(autouse=True)
def one_thread():
    """As the workers have: products are then the same to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
