"""KMeans by sums and counts against scikit-learn, and the same wherever it runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scale_samples import DRAW
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

from iood_helpers import ClassKMeans
from iood_helpers.errors import ClusteringError, ScaleError
from iood_helpers.scale import Network, extract, fit, fitting


def by_parts(x, parts=4):
    """Rounds over rows in several blocks of one class."""
    blocks = [{0: part} for part in np.array_split(x.astype(np.float32), parts)]
    held = fitting._Blocks.__new__(fitting._Blocks)
    held._held, held._workers = blocks, None
    return held


def moved(x, start, max_iter=100):
    """Where the centers of one class rest."""
    blocks = by_parts(x)
    fits = {(0, 0): fitting.lloyd(start, blocks.moments([0])[0][1], max_iter)}
    return fitting._side_by_side(fits, blocks, progress=False)[0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_finds_the_same_from_the_same_start(seed):
    x = make_blobs(900, 5, centers=7, random_state=seed, cluster_std=3)[0].astype(np.float32)
    start = x[np.random.default_rng(seed).permutation(len(x))[:6]].astype(np.float64)
    np.testing.assert_allclose(by_parts(x).moments([0])[0][0], x.mean(0), atol=1e-5)
    inertia, centers, counts = moved(x, start)
    wanted = KMeans(6, init=start.astype(np.float32), n_init=1, max_iter=100).fit(x)
    np.testing.assert_allclose(centers, wanted.cluster_centers_, atol=1e-4)
    np.testing.assert_array_equal(counts, np.bincount(wanted.labels_))
    assert inertia == pytest.approx(wanted.inertia_, rel=1e-5)


def test_empty_clusters_are_filled_as_scikit_learn_does():
    """Two first centres lie far from every row."""
    x = make_blobs(300, 3, centers=4, random_state=0)[0].astype(np.float32)
    start = np.concatenate([x[:2], np.full((2, 3), [[1e3], [2e3]])]).astype(np.float64)
    for rounds in (1, 100):  # what the first one leaves, and where they rest
        _, centers, counts = moved(x, start, rounds)
        wanted = KMeans(4, init=start.astype(np.float32), n_init=1, max_iter=rounds).fit(x)
        assert counts.min() > 0
        np.testing.assert_allclose(centers, wanted.cluster_centers_, atol=1e-4)


def test_clusters_that_nothing_can_fill_stay_empty():
    """Three different rows make three clusters."""
    x = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    start = np.concatenate([np.eye(3), np.full((1, 3), 9.0)])
    inertia, centers, counts = moved(x, start)
    assert counts.tolist() == [5, 5, 5, 0] and inertia == 0
    np.testing.assert_array_equal(centers, start)


@pytest.fixture(scope="module")
def store(tmp_path_factory, dataset, embedder):
    return extract(Network(), dataset, embedder, tmp_path_factory.mktemp("fit") / "s", progress=False, **DRAW)


def assert_alike(found, wanted, **tolerance):
    assert found.counts_.keys() == wanted.counts_.keys() and len(wanted.counts_) > 10
    for c in wanted.counts_:
        np.testing.assert_array_equal(found.counts_[c], wanted.counts_[c])
        np.testing.assert_allclose(found.centers_[c], wanted.centers_[c], **tolerance)
        np.testing.assert_allclose(found.inertia_[c], wanted.inertia_[c], **tolerance)
    np.testing.assert_allclose(found.shared_centers_, wanted.shared_centers_, **tolerance)


@pytest.mark.parametrize("sample", [200, 20])
def test_a_fit_on_a_store_is_the_fit_in_memory(sample, store, single, fitted, monkeypatch):
    """With first centres from all rows, and from a sample."""
    monkeypatch.setattr("iood_helpers.method.kmeans.START_ROWS_PER_CLUSTER", sample)
    monkeypatch.setattr(fitting, "BLOCK_ROWS", 700)
    embedder, _ = fitted
    rows = single.load(150, seed=2)
    kmeans = ClassKMeans(5, n_init=2, n_shared=20, random_state=4)
    found = fit(kmeans, store, embedder, n_per_class=150, seed=2, progress=False)
    wanted = ClassKMeans(**kmeans.get_params()).fit(embedder.apply(rows.embeddings), rows.label)
    assert_alike(found, wanted, rtol=1e-4, atol=1e-4)
    assert not hasattr(kmeans, "centers_")


def test_workers_find_the_same_to_the_last_bit(store, fitted, client, monkeypatch):
    monkeypatch.setattr(fitting, "BLOCK_ROWS", 2000)
    embedder, _ = fitted
    kmeans = ClassKMeans(3, n_init=1, max_iter=2, n_shared=10)
    here, there = (fit(kmeans, store, embedder, client=where, progress=False) for where in (None, client))
    assert_alike(there, here, rtol=0, atol=0)


def test_all_classes_share_the_rounds(store, fitted, monkeypatch):
    """The most rounds of one class, and not the sum over classes: each is a round trip to the workers."""
    rounds = []
    plain = fitting._Blocks.measure
    monkeypatch.setattr(fitting._Blocks, "measure", lambda self, asked: rounds.append(set(asked)) or plain(self, asked))
    found = fit(ClassKMeans(3, n_init=2, max_iter=4, n_shared=0), store, fitted[0], progress=False)
    assert rounds[0] == {(c, number) for c in found.centers_ for number in range(2)} and len(found.centers_) > 10
    assert 2 < len(rounds) <= 2 * 4 + 1  # a round for empty clusters may come with each, and one ends a fit
    assert all(later <= earlier for earlier, later in itertools.pairwise(rounds)) and rounds[-1] < rounds[0]


def test_blocks_are_no_larger_than_a_worker_can_hold(monkeypatch):
    """Only a single image may be."""
    monkeypatch.setattr(fitting, "BLOCK_ROWS", 10)
    chosen = [(index, np.arange(rows)) for index, rows in enumerate((4, 6, 1, 25, 5, 5, 3))]
    blocks = fitting._divided(chosen)
    assert [one for block in blocks for one in block] == chosen
    assert [[index for index, _ in block] for block in blocks] == [[0, 1], [2], [3], [4, 5], [6]]


def test_nothing_to_learn_from_is_named(tmp_path, dataset, embedder, fitted):
    store = extract(Network(), dataset[:1], embedder, tmp_path, progress=False, n_per_class=20)
    with pytest.raises(ClusteringError, match="holds no rows"):
        fit(ClassKMeans(), store, fitted[0], n_per_class=0, progress=False)
    with pytest.raises(ClusteringError, match="n_clusters"):
        fit(ClassKMeans(0), store, fitted[0], progress=False)
    with pytest.raises(ScaleError, match="not 7"):
        fit(ClassKMeans(), store, fitted[0], client=7, progress=False)
