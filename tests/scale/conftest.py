"""One crowd of worker processes for all tests of the room: each takes seconds to start."""

from __future__ import annotations

import dask
import pytest
import torch
from distributed import Client, LocalCluster
from scale_samples import DRAW, LEVELS

from iood_helpers import ClassKMeans, PixelEmbedder, extract_embeddings, load_dataset, load_segmenter


@pytest.fixture(scope="package")
def cluster():
    """Two worker processes of one thread; an image that ends a worker is not tried a second time beside others."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as found,
    ):
        yield found


@pytest.fixture(scope="package")
def client(cluster):
    with Client(cluster) as found:
        yield found


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """As the workers have: products are then the same to the last bit. Before any store that tests share is made."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def dataset():
    return load_dataset("mini/train-fit", limit=5)


@pytest.fixture(scope="package")
def embedder():
    return PixelEmbedder(LEVELS)


@pytest.fixture(scope="package")
def single(tmp_path_factory, dataset, embedder):
    """The store that one process extracts."""
    path = tmp_path_factory.mktemp("single") / "store"
    return extract_embeddings(load_segmenter("nano"), dataset, embedder, path, progress=False, **DRAW)


@pytest.fixture(scope="package")
def fitted(single):
    """Embedder and clusters."""
    rows = single.load()
    embedder = PixelEmbedder(LEVELS, standardize=True).fit(rows.embeddings)
    x = embedder.apply(rows.embeddings)
    return embedder, ClassKMeans(4, random_state=1).fit(x, rows.label).calibrate(x, rows.predicted)


def pytest_collection_modifyitems(items):
    """What needs worker processes is slow; the rest shows the same steps in one process."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
