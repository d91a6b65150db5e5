"""KMeans per class by sums and counts: workers hold the vectors, and only sums travel, those of all classes at once.

Lloyd's algorithm as scikit-learn runs it, from the same first centres: the same rule for empty clusters and the same
end, so that both give the same centres up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.cluster import kmeans_plusplus
from tqdm.auto import tqdm

from ..errors import ClusteringError
from ..method import kmeans as single
from ..method.embedder import PixelEmbedder
from ..method.kmeans import ClassKMeans
from .clients import connected
from .shards import ShardedStore
from .tasks import itself, talking

TOLERANCE = 1e-4
"""As in scikit-learn's KMeans: times the mean variance, the squared movement of all centres that ends a fit."""
BLOCK_ROWS = 65_536
"""Rows that a task takes at most (but for a single image with more)."""


class Part(NamedTuple):
    """What one block of rows adds to a round, for the centres of one class.

    Attributes
    ----------
    sums : numpy.ndarray
        (k, D) float64, of the vectors of each cluster.
    counts : numpy.ndarray
        (k,) int64.
    inertia : float
        Sum of squared distances.
    farthest : list of tuple
        Squared distance, cluster and vector of the rows farthest from their centres, as many as were asked for.
    """

    sums: np.ndarray
    counts: np.ndarray
    inertia: float
    farthest: list[tuple[float, int, np.ndarray]]


class Found(NamedTuple):
    """Where a fit ends.

    Attributes
    ----------
    inertia : float
        Sum of squared distances.
    centers : numpy.ndarray
        (k, D) float64.
    counts : numpy.ndarray
        (k,) int64.
    """

    inertia: float
    centers: np.ndarray
    counts: np.ndarray


Asked = tuple[np.ndarray, int]
"""Centers (k, D), and how many of the rows farthest from theirs are wanted."""
Key = tuple[int, int]
"""Class, and which of its ``n_init`` fits."""


def fit(
    kmeans: ClassKMeans,
    store: ShardedStore,
    embedder: PixelEmbedder,
    *,
    n_per_class: int | None = None,
    seed: int = 0,
    client: Any = None,
    progress: bool = True,
) -> ClassKMeans:
    """Fit the centres of every class on the rows of a store, as ``ClassKMeans.fit`` does on rows in memory.

    With a client, vectors stay in the memory of the workers (Dask writes to disk what is too much), and a worker that
    ends is made up for from the store. What ``ClassKMeans.fit`` draws (first centres, rows for shared centres) is drawn
    alike, so centres agree with its centres to 1e-4 of their spread, but where rounding turns a tie.

    Parameters
    ----------
    kmeans : ClassKMeans
        Not fitted; gives parameters and seed.
    store : ShardedStore
        Complete or not; its ``label`` column says which class a row belongs to.
    embedder : PixelEmbedder
        Fitted where it standardizes; its levels are read.
    n_per_class, seed
        As for ``ShardedStore.load``.
    client : None, str, Client or cluster
        As for :func:`~iood_helpers.scale.clients.connected`.
    progress : bool, default=True
        Whether to show a bar.

    Returns
    -------
    ClassKMeans
        A new one.

    Raises
    ------
    ClusteringError
        As ``ClassKMeans.fit`` does.
    EmbeddingError
        If the store is damaged.
    """
    model = clone(kmeans)
    model._check_parameters()
    model.centers_, model.counts_, model.inertia_, model.quantiles_, model.statistics_ = {}, {}, {}, {}, None
    chosen = store.choose(n_per_class, seed)
    labels = store.column("label", chosen)
    if not len(labels):
        raise ClusteringError(f"The store {store.place.address} holds no rows; there is nothing to learn from.")
    rows = _Rows(store, embedder, chosen)
    with connected(client) as workers:
        blocks = _Blocks(store, embedder, chosen, workers)
        classes = [int(c) for c in np.unique(labels)]
        moments = blocks.moments(classes)
        fits: dict[Key, Generator[Asked, Part, Found]] = {}
        for c in tqdm(classes, "first centers", disable=not progress):
            mean, variance = moments[c]
            starts = _starts(model, rows, np.flatnonzero(labels == c), mean)
            fits |= {(c, number): lloyd(start, variance, model.max_iter) for number, start in enumerate(starts)}
        found = _side_by_side(fits, blocks, progress)
        for c in classes:  # the best, as scikit-learn chooses it
            best = min((one for (of, _), one in found.items() if of == c), key=lambda one: one.inertia)
            model.inertia_[c], model.centers_[c], model.counts_[c] = best[0], best[1].astype(np.float32), best[2]
        model.shared_centers_ = model._fit_shared(rows)
    return model


def _starts(model: ClassKMeans, rows: _Rows, members: np.ndarray, mean: np.ndarray) -> Iterator[np.ndarray]:
    """First centers of each fit of a class, drawn as ``ClassKMeans`` draws them: (k, D) float64."""
    k = max(1, min(model.n_clusters, len(members) // model.min_samples_per_cluster))
    rng = np.random.RandomState(model.random_state)
    most = single.START_ROWS_PER_CLUSTER * k
    x = rows[members] - mean if len(members) <= most else None
    for _ in range(model.n_init):
        if x is None:
            few = rows[members[rng.permutation(len(members))[:most]]] - mean
            yield kmeans_plusplus(few.astype(np.float64), k, random_state=rng)[0] + mean
        else:
            yield kmeans_plusplus(x, k, random_state=rng)[0].astype(np.float64) + mean


def lloyd(start: np.ndarray, variance: float, max_iter: int) -> Generator[Asked, Part, Found]:
    """Move centers to the means of their clusters until they rest; whoever drives this measures.

    Parameters
    ----------
    start : numpy.ndarray
        First centers, (k, D).
    variance : float
        Mean over dimensions of the rows' variance.
    max_iter : int
        Most rounds.

    Yields
    ------
    tuple of (numpy.ndarray, int)
        Centers, and a number of farthest rows: the :class:`Part` of all rows is to be sent back.

    Returns
    -------
    Found
    """
    centers = start
    for _ in range(max_iter):
        part = yield centers, 0
        if (empty := np.flatnonzero(part.counts == 0)).size:
            part = _filled((yield centers, len(empty)), empty)
        moved = np.where(part.counts[:, None] > 0, part.sums / np.maximum(part.counts, 1)[:, None], centers)
        shift, centers = ((moved - centers) ** 2).sum(), moved
        if shift <= TOLERANCE * variance:
            break
    last = yield centers, 0
    return Found(last.inertia, centers, last.counts)


def _side_by_side(
    fits: Mapping[Key, Generator[Asked, Part, Found]], blocks: _Blocks, progress: bool
) -> dict[Key, Found]:
    """Results of fits that go on together: a round trip to the workers measures the centers of all of them."""
    found = {}
    asked = {key: next(one) for key, one in fits.items()}
    with tqdm(total=len(fits), desc="fit", disable=not progress) as bar:
        while asked:
            parts = blocks.measure(asked)
            asked = {}
            for key, part in parts.items():
                try:
                    asked[key] = fits[key].send(part)
                except StopIteration as end:
                    found[key] = end.value
                    bar.update()
    return found


def _filled(part: Part, empty: np.ndarray) -> Part:
    """The farthest rows become clusters of their own, in place of empty ones."""
    sums, counts = part.sums.copy(), part.counts.copy()
    for cluster, (distance, old, x) in zip(empty, part.farthest, strict=False):
        if distance > 0:
            sums[old] -= x
            counts[old] -= 1
            sums[cluster], counts[cluster] = x, 1
    return Part(sums, counts, part.inertia, [])


class _Rows:
    """Vectors of chosen rows, read from the store when they are asked for."""

    def __init__(self, store: ShardedStore, embedder: PixelEmbedder, chosen: Sequence[tuple[int, np.ndarray]]) -> None:
        self._store, self._embedder, self._chosen = store, embedder, chosen
        self._ends = np.cumsum([len(rows) for _, rows in chosen])
        widths = store.widths
        dim = embedder.dim or sum(widths[level] for level in embedder.levels if level in widths)
        self.shape = (int(self._ends[-1]) if len(self._ends) else 0, dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: np.ndarray) -> np.ndarray:
        order = np.argsort(wanted, kind="stable")
        parts = np.split(wanted[order], np.searchsorted(wanted[order], self._ends[:-1]))
        pieces = [
            (index, rows[part - (end - len(rows))])
            for (index, rows), end, part in zip(self._chosen, self._ends, parts, strict=True)
            if len(part)
        ]
        x = self._embedder.apply(self._store.read(pieces, self._embedder.levels).embeddings)
        out = np.empty_like(x)
        out[order] = x
        return out


class _Blocks:
    """Vectors of all chosen rows in blocks: in this process, or in the memory of workers."""

    def __init__(self, store: ShardedStore, embedder: PixelEmbedder, chosen: Any, workers: Any) -> None:
        pieces = _divided(chosen)
        if workers is None:
            self._held = [_block(piece, store, embedder) for piece in pieces]
        else:
            tell = workers.submit(itself, (store, embedder), pure=False)
            self._held = [workers.submit(_block_of, piece, tell, pure=False) for piece in pieces]
        self._workers = workers

    def moments(self, classes: Sequence[int]) -> dict[int, tuple[np.ndarray, float]]:
        """By class: mean (D,) of its vectors, and mean over dimensions of their variance."""
        found = {}
        parts = self._all(_moments, classes)
        for c in classes:
            sums, squares, number = (sum(each) for each in zip(*(part[c] for part in parts), strict=True))
            mean = sums / number
            found[c] = mean.astype(np.float32), float(np.mean(squares / number - mean**2))
        return found

    def measure(self, asked: Mapping[Key, Asked]) -> dict[Key, Part]:
        """The :class:`Part` of all rows of a class, for each of the centers."""
        parts = self._all(_measured, asked)
        return {key: _sum([part[key] for part in parts], farthest) for key, (_, farthest) in asked.items()}

    def _all(self, function: Any, argument: Any) -> list[Any]:
        """Results for all blocks, in order: sums are then the same wherever they are made."""
        if self._workers is None:
            return [function(block, argument) for block in self._held]
        with talking(self._workers):
            sent = self._workers.submit(itself, argument, pure=False)
            submit = self._workers.submit
            return self._workers.gather([submit(function, block, sent, pure=False) for block in self._held])


Block = dict[int, np.ndarray]
"""Class to its vectors, (n, D) float32."""


def _divided(chosen: Sequence[tuple[int, np.ndarray]]) -> list[list[tuple[int, np.ndarray]]]:
    """Images in blocks of some ten thousand rows."""
    blocks: list[list[tuple[int, np.ndarray]]] = []
    room = 0
    for index, rows in chosen:
        if len(rows) > room:
            blocks.append([])
            room = BLOCK_ROWS
        blocks[-1].append((index, rows))
        room -= len(rows)
    return blocks


def _block(piece: list[tuple[int, np.ndarray]], store: ShardedStore, embedder: PixelEmbedder) -> Block:
    found = store.read(piece, embedder.levels)
    x = embedder.apply(found.embeddings)
    return {int(c): x[found.label == c] for c in np.unique(found.label)}


def _block_of(piece: list[tuple[int, np.ndarray]], told: tuple[ShardedStore, PixelEmbedder]) -> Block:
    return _block(piece, *told)


def _vectors(block: Block, c: int) -> np.ndarray:
    return block.get(c, np.zeros((0, next(iter(block.values())).shape[1]), np.float32))


def _moments(block: Block, classes: Sequence[int]) -> dict[int, tuple[Any, Any, int]]:
    vectors = {c: _vectors(block, c) for c in classes}
    return {
        c: (x.sum(0, dtype=np.float64), np.einsum("ij,ij->j", x, x, dtype=np.float64), len(x))
        for c, x in vectors.items()
    }


def _measured(block: Block, asked: Mapping[Key, Asked]) -> dict[Key, Part]:
    return {key: _part(_vectors(block, key[0]), *of) for key, of in asked.items()}


def _part(x: np.ndarray, centers: np.ndarray, farthest: int) -> Part:
    k = len(centers)
    squared = single._squared_distances(x, centers.astype(np.float32)) if len(x) else np.zeros((0, k), np.float32)
    nearest = squared.argmin(1)
    least = squared[np.arange(len(x)), nearest]
    sums = np.stack([x[nearest == cluster].sum(0, dtype=np.float64) for cluster in range(k)])
    far = np.argsort(-least, kind="stable")[:farthest]
    return Part(
        sums,
        np.bincount(nearest, minlength=k),
        float(least.sum(dtype=np.float64)),
        [(float(least[row]), int(nearest[row]), x[row].astype(np.float64)) for row in far],
    )


def _sum(parts: Sequence[Part], farthest: int) -> Part:
    far = sorted((one for part in parts for one in part.farthest), key=lambda one: -one[0])[:farthest]
    sums, counts, inertia = (sum(each) for each in list(zip(*parts, strict=True))[:3])
    return Part(sums, counts, float(inertia), far)
