"""What is normal: one KMeans per class, and how far ordinary pixels lie from its centres."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.utils.validation import assert_all_finite, check_is_fitted

from .classes import NUM_CLASSES
from .errors import ClusteringError
from .files import write_atomically

BATCH_ROWS = 65_536
MAX_QUANTILES = 2000
START_ROWS_PER_CLUSTER = 200
"""With more pixels per cluster than this, k-means++ chooses the first centres from a sample: among all of them it takes
longer than what follows, and the result is no better."""
MIN_HELD_OUT = 50
"""Classes with fewer held-out pixels use the pooled distribution of all classes."""


class ClassKMeans(ClusterMixin, TransformerMixin, BaseEstimator):
    """KMeans for each class (train ids 0..18), with distances in units of how far ordinary pixels lie.

    Parameters
    ----------
    n_clusters
        Centres per class; rare classes get fewer (see ``min_samples_per_cluster``).
    n_init, max_iter
        As in scikit-learn's ``KMeans``.
    min_samples_per_cluster
        A class of n pixels gets at most ``n // min_samples_per_cluster`` centres, and at least one.
    spread
        Unit of scaled distances: the root mean square distance of all pixels of the class to their centres ("class"),
        or of each cluster's own pixels ("cluster"). Small tight clusters make the latter noisy: on the development
        objects it found less and cost more on ordinary scenes.
    refit_per_image
        The published flaw: fit anew on each image (``groups`` of :meth:`fit`), so that only the last one that holds a
        class counts.
    random_state
        Seed.

    Attributes
    ----------
    centers_
        Class to (k, D) float32.
    spreads_
        Class to (k,) float32: unit of scaled distances of each cluster (see ``spread``).
    counts_
        Class to (k,) int64: pixels of each cluster.
    inertia_
        Class to the sum of squared distances to the nearest centre.
    too_small_
        Classes that had fewer pixels than ``n_clusters`` (the published code raises an error there).
    quantiles_
        Class (and -1 for all) to sorted held-out distances, after :meth:`calibrate`.
    """

    def __init__(
        self,
        n_clusters: int = 30,
        *,
        n_init: int = 3,
        max_iter: int = 100,
        min_samples_per_cluster: int = 10,
        spread: Literal["class", "cluster"] = "class",
        refit_per_image: bool = False,
        random_state: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.max_iter = max_iter
        self.min_samples_per_cluster = min_samples_per_cluster
        self.spread = spread
        self.refit_per_image = refit_per_image
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> ClassKMeans:
        """Fit the centres.

        Parameters
        ----------
        X
            (n, D) float vectors.
        y
            (n,) train ids 0..18.
        groups
            (n,) image of each vector; needed with ``refit_per_image``.

        Raises
        ------
        ClusteringError
            If there is nothing to fit, shapes differ, ids are out of range, or values are NaN or infinite.
        """
        X, y = self._checked(X, y)
        if self.refit_per_image and groups is None:
            raise ClusteringError("Fitting per image needs to know the image of each vector; pass groups.")
        self.centers_, self.spreads_, self.counts_, self.inertia_ = {}, {}, {}, {}
        self.too_small_: list[int] = []
        self.quantiles_: dict[int, np.ndarray] = {}
        self.n_features_in_ = X.shape[1]
        for c in np.unique(y):
            chosen = y == c
            if self.refit_per_image:
                chosen &= np.asarray(groups) == np.asarray(groups)[chosen][-1]
            self._fit_class(int(c), X[chosen])
        return self

    def _fit_class(self, c: int, x: np.ndarray) -> None:
        if len(x) < self.n_clusters:
            self.too_small_.append(c)
        k = max(1, min(self.n_clusters, len(x) // self.min_samples_per_cluster))
        init = "k-means++" if len(x) <= START_ROWS_PER_CLUSTER * k else _start_from_a_sample
        model = KMeans(k, init=init, n_init=self.n_init, max_iter=self.max_iter, random_state=self.random_state).fit(x)
        counts = np.bincount(model.labels_, minlength=k)
        overall = max(float(np.sqrt(model.inertia_ / len(x))), 1e-6)
        spread = np.full(k, overall)
        if self.spread == "cluster":
            # A cluster of one or two twins has no spread of its own: half of the class's is the floor.
            squared = _squared_distances(x, model.cluster_centers_).min(1)
            own = np.sqrt(np.bincount(model.labels_, squared, k) / np.maximum(counts, 1))
            spread = np.maximum(own, 0.5 * overall)
        self.centers_[c] = model.cluster_centers_.astype(np.float32)
        self.spreads_[c] = spread.astype(np.float32)
        self.counts_[c] = counts.astype(np.int64)
        self.inertia_[c] = float(model.inertia_)

    def distances(self, X: np.ndarray, c: int) -> np.ndarray:
        """Euclidean distances (n, k) to the centres of class c."""
        check_is_fitted(self, "centers_")
        return np.sqrt(_squared_distances(np.asarray(X, np.float32), self.centers_[c]))

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Distance to the nearest centre of each class: (n, 19) float32, infinite for classes without centres."""
        check_is_fitted(self, "centers_")
        X = np.asarray(X, np.float32)
        out = np.full((len(X), NUM_CLASSES), np.inf, np.float32)
        for c in self.centers_:
            for rows in _batches(len(X)):
                out[rows, c] = self.distances(X[rows], c).min(1)
        return out

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class of the nearest centre, (n,) uint8."""
        return self.transform(X).argmin(1).astype(np.uint8)

    def predict_cluster(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Index of the nearest centre of class y, (n,) int64; -1 where the class has none."""
        return self._nearest(X, y)[1]

    def scaled_distance(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance to the nearest centre of class y in units of that cluster's spread, (n,) float32.

        Pixels of a class without centres are measured against all centres of all classes.
        """
        return self._nearest(X, y)[0]

    def score_samples(self, X: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Normality, higher is more normal: minus the scaled distance to class y (or to the nearest class)."""
        check_is_fitted(self, "centers_")
        if y is not None:
            return -self.scaled_distance(X, y)
        X = np.asarray(X, np.float32)
        return -np.min([self.scaled_distance(X, np.full(len(X), c)) for c in self.centers_], axis=0)

    def _nearest(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self, "centers_")
        X, y = np.asarray(X, np.float32), np.asarray(y)
        distance, cluster = np.zeros(len(X), np.float32), np.full(len(X), -1)
        for c in np.unique(y):
            rows = np.flatnonzero(y == c)
            for part in _batches(len(rows)):
                chosen = rows[part]
                if int(c) in self.centers_:
                    d = self.distances(X[chosen], int(c))
                    cluster[chosen] = d.argmin(1)
                    distance[chosen] = d.min(1) / self.spreads_[int(c)][cluster[chosen]]
                else:
                    all_classes = [self.distances(X[chosen], k) / self.spreads_[k] for k in self.centers_]
                    distance[chosen] = np.concatenate(all_classes, 1).min(1)
        return distance, cluster

    def calibrate(self, X: np.ndarray, y: np.ndarray) -> ClassKMeans:
        """Learn how far ordinary pixels lie: X (n, D) and y (n,) from images that :meth:`fit` has not seen."""
        check_is_fitted(self, "centers_")
        X, y = self._checked(X, y)
        distance = self.scaled_distance(X, y)
        self.quantiles_ = {-1: _thinned(distance)}
        for c in np.unique(y):
            if (y == c).sum() >= MIN_HELD_OUT:
                self.quantiles_[int(c)] = _thinned(distance[y == c])
        return self

    def tail_probability(self, distance: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Share of held-out ordinary pixels of class y that lie at least this far: (n,) float64 in (0, 1]."""
        return self._by_class(y, distance, _tail)

    def held_out_quantile(self, y: np.ndarray, q: float) -> np.ndarray:
        """Scaled distance below which a share q of ordinary pixels of class y lies, (n,) float64."""
        return self._by_class(y, np.zeros(len(y)), lambda sorted_distances, _: np.quantile(sorted_distances, q))

    def _by_class(self, y: np.ndarray, values: np.ndarray, function) -> np.ndarray:
        if not getattr(self, "quantiles_", None):
            raise ClusteringError("This ClassKMeans is not calibrated; call calibrate with held-out pixels first.")
        y, values = np.asarray(y), np.asarray(values)
        out = np.empty(len(y))
        for c in np.unique(y):
            out[y == c] = function(self.quantiles_.get(int(c), self.quantiles_[-1]), values[y == c])
        return out

    def save(self, path: str | Path) -> Path:
        """Write the fitted model as safetensors."""
        check_is_fitted(self, "centers_")
        arrays = {f"quantiles.{c}": q for c, q in self.quantiles_.items()}
        for c in self.centers_:
            arrays |= {
                f"centers.{c}": self.centers_[c],
                f"spreads.{c}": self.spreads_[c],
                f"counts.{c}": self.counts_[c],
            }
        state = {
            "inertia": {str(c): v for c, v in self.inertia_.items()},
            "too_small": self.too_small_,
            "n_features_in": self.n_features_in_,
        }
        metadata = {"kind": "ClassKMeans", "parameters": json.dumps(self.get_params()), "state": json.dumps(state)}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return write_atomically(path, lambda temporary: save_file(arrays, temporary, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> ClassKMeans:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ClusteringError
            If the file is missing, damaged or of another kind.
        """
        try:
            with safe_open(str(path), "numpy") as stream:
                metadata = stream.metadata() or {}
                arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            if metadata.get("kind") != "ClassKMeans":
                raise ValueError("another kind of file")
            model, state = cls(**json.loads(metadata["parameters"])), json.loads(metadata["state"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ClusteringError(f"The file {path} is not a saved ClassKMeans ({error}); fit it anew.") from error
        for name in ("centers", "spreads", "counts", "quantiles"):
            found = {int(key.split(".")[1]): array for key, array in arrays.items() if key.startswith(f"{name}.")}
            setattr(model, f"{name}_", found)
        model.inertia_ = {int(c): v for c, v in state["inertia"].items()}
        model.too_small_, model.n_features_in_ = state["too_small"], state["n_features_in"]
        return model

    def _checked(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        X, y = np.asarray(X, np.float32), np.asarray(y)
        if X.ndim != 2 or len(X) != len(y) or not len(X):
            raise ClusteringError(f"Vectors {X.shape} and classes {y.shape} do not fit, or there are none.")
        try:
            assert_all_finite(X)
        except ValueError as error:
            raise ClusteringError("The vectors hold NaN or infinite values; check the embeddings.") from error
        if y.min() < 0 or y.max() >= NUM_CLASSES:
            raise ClusteringError(f"Classes must be train ids 0..18; found {y.min()} to {y.max()}.")
        return X, y


def _start_from_a_sample(x: np.ndarray, n_clusters: int, random_state: np.random.RandomState) -> np.ndarray:
    rows = random_state.permutation(len(x))[: START_ROWS_PER_CLUSTER * n_clusters]
    # In float64, or scikit-learn converts the sample anew for each centre.
    return kmeans_plusplus(x[rows].astype(np.float64), n_clusters, random_state=random_state)[0].astype(x.dtype)


def _squared_distances(x: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(n, k) squared Euclidean distances by one matrix product; both are centred first so that little cancels."""
    origin = centers.mean(0)
    x, centers = x - origin, centers - origin
    squared = np.einsum("ij,ij->i", x, x)[:, None] - 2 * x @ centers.T + (centers**2).sum(1)
    return np.maximum(squared, 0)


def _batches(n: int) -> list[slice]:
    return [slice(start, min(start + BATCH_ROWS, n)) for start in range(0, n, BATCH_ROWS)]


def _thinned(distance: np.ndarray) -> np.ndarray:
    if len(distance) <= MAX_QUANTILES:
        return np.sort(distance).astype(np.float32)
    return np.quantile(distance, np.linspace(0, 1, MAX_QUANTILES)).astype(np.float32)


def _tail(sorted_distances: np.ndarray, distance: np.ndarray) -> np.ndarray:
    n = len(sorted_distances)
    return (n - np.searchsorted(sorted_distances, distance, side="left") + 1) / (n + 1)
