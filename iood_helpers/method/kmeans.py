"""What is normal: one KMeans per class, and how far ordinary pixels lie from its centres."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.cluster import KMeans, kmeans_plusplus

from ..checks import MAX_SEED, finite, train_ids, vectors, whole
from ..datasets.labels import NUM_CLASSES
from ..errors import ClusteringError
from .fitted import load_fitted, save_fitted

BATCH_ROWS = 65_536
MAX_QUANTILES = 2000
START_ROWS_PER_CLUSTER = 200
"""With more pixels per cluster than this, k-means++ chooses the first centres from a sample: among all of them it takes
longer than what follows, and the result is no better."""
MAX_VALUE = 1e15
"""Larger numbers are refused: their squares and sums leave the range of float32."""
MIN_SPREAD = 1e-7
"""Less than :meth:`ClassKMeans.fit` gives, so a smaller unit in a file is damage."""
MIN_CALIBRATION = 50
"""Classes with fewer held-out pixels use the pooled distribution of all classes."""

MAX_COUNT = 1_000_000
PER_CLASS = ("centers", "spreads", "counts")
ARRAY_NAME = re.compile(r"(centers|spreads|counts|quantiles)\.((?:(?<=quantiles\.)-1)|[0-9]|1[0-8])")


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
            If there is nothing to fit, shapes differ, ids are out of range, values are NaN or infinite, or a parameter
            of the model is impossible.
        """
        self._check_parameters()
        X, y = _sample(X, y)
        if self.refit_per_image and groups is None:
            raise ClusteringError("Fitting per image needs to know the image of each vector; pass groups.")
        if groups is not None and np.shape(groups) != y.shape:
            raise ClusteringError(f"Groups {np.shape(groups)} and classes {y.shape} do not fit.")
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
        """Euclidean distances (n, k) to the centres of class c.

        Raises
        ------
        ClusteringError
            If class c has no centres, or vectors hold NaN or have another width than those of :meth:`fit`.
        """
        X, c = self._fitting(X), int(train_ids([c], 1, ClusteringError)[0])
        if c not in self.centers_:
            raise ClusteringError(f"Class {c} has no centres; there are some of {sorted(self.centers_)}.")
        return self._distances(X, c)

    def _distances(self, x: np.ndarray, c: int) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            squared = _squared_distances(x, self.centers_[c])
        # NaN and whatever is too large end here, so the vectors need no look of their own.
        finite(squared, ClusteringError)
        return np.sqrt(squared)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Distance to the nearest centre of each class: (n, 19) float32, infinite for classes without centres.

        Raises as :meth:`distances` does; so do all methods that take vectors.
        """
        X = self._fitting(X)
        out = np.full((len(X), NUM_CLASSES), np.inf, np.float32)
        for c in self.centers_:
            for rows in _batches(len(X)):
                out[rows, c] = self._distances(X[rows], c).min(1)
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
        X = self._fitting(X)
        if y is not None:
            return -self.scaled_distance(X, y)
        return -np.min([self.scaled_distance(X, np.full(len(X), c)) for c in self.centers_], axis=0)

    def _nearest(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        X = self._fitting(X)
        y = train_ids(y, len(X), ClusteringError)
        distance, cluster = np.zeros(len(X), np.float32), np.full(len(X), -1)
        for c in np.unique(y):
            rows = np.flatnonzero(y == c)
            for part in _batches(len(rows)):
                chosen = rows[part]
                if int(c) in self.centers_:
                    d = self._distances(X[chosen], int(c))
                    cluster[chosen] = d.argmin(1)
                    distance[chosen] = d.min(1) / self.spreads_[int(c)][cluster[chosen]]
                else:
                    all_classes = [self._distances(X[chosen], k) / self.spreads_[k] for k in self.centers_]
                    distance[chosen] = np.concatenate(all_classes, 1).min(1)
        return distance, cluster

    def calibrate(self, X: np.ndarray, y: np.ndarray) -> ClassKMeans:
        """Learn how far ordinary pixels lie: X (n, D) and y (n,) from images that :meth:`fit` has not seen."""
        self._fitting(X)
        X, y = _sample(X, y)
        distance = self.scaled_distance(X, y)
        self.quantiles_ = {-1: _thinned(distance)}
        for c in np.unique(y):
            if (y == c).sum() >= MIN_CALIBRATION:
                self.quantiles_[int(c)] = _thinned(distance[y == c])
        return self

    def tail_probability(self, distance: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Share of held-out ordinary pixels of class y that lie at least this far: (n,) float64 in (0, 1]."""
        return self._by_class(y, distance, _tail)

    def calibration_quantile(self, y: np.ndarray, q: float) -> np.ndarray:
        """Scaled distance below which a share q (0..1) of ordinary pixels of class y lies, (n,) float64."""
        if not 0 <= q <= 1:
            raise ClusteringError(f"A share of pixels lies between 0 and 1, not at {q}.")
        return self._by_class(y, np.zeros(len(y)), lambda sorted_distances, _: np.quantile(sorted_distances, q))

    def _by_class(self, y: np.ndarray, values: np.ndarray, function) -> np.ndarray:
        if not getattr(self, "quantiles_", None):
            raise ClusteringError("This ClassKMeans is not calibrated; call calibrate with held-out pixels first.")
        values = np.asarray(values)
        if values.ndim != 1 or np.isnan(values).any():
            raise ClusteringError(f"Distances {values.shape} are not (n,) or hold NaN; check the vectors.")
        y = train_ids(y, len(values), ClusteringError)
        out = np.empty(len(y))
        for c in np.unique(y):
            out[y == c] = function(self.quantiles_.get(int(c), self.quantiles_[-1]), values[y == c])
        return out

    def save(self, path: str | Path) -> Path:
        """Write the fitted model as safetensors; the same model gives the same bytes."""
        self._ask_for_fit()
        arrays = {f"quantiles.{c}": q for c, q in self.quantiles_.items()}
        for name in PER_CLASS:
            arrays |= {f"{name}.{c}": array for c, array in getattr(self, f"{name}_").items()}
        state = {"inertia": self.inertia_, "too_small": self.too_small_, "n_features_in": self.n_features_in_}
        return save_fitted(path, "ClassKMeans", arrays, parameters=self.get_params(), state=state)

    @classmethod
    def load(cls, path: str | Path) -> ClassKMeans:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ClusteringError
            If the file is missing, damaged or of another kind, or its arrays are not those of a fitted model.
        """
        try:
            arrays, values = load_fitted(path, "ClassKMeans", ("parameters", "state"))
            parameters, state = values["parameters"], values["state"]
            if not isinstance(parameters, dict) or parameters.keys() != cls().get_params().keys():
                raise ValueError("its parameters are not those of a ClassKMeans")
            model = cls(**parameters)
            model._check_parameters()
            model._take(arrays, state)
        except (ValueError, ClusteringError) as error:
            raise ClusteringError(f"The file {path} is not a saved ClassKMeans ({error}); fit it anew.") from error
        return model

    def _take(self, arrays: dict[str, np.ndarray], state: dict) -> None:
        """Arrays and state of a file, if they are those of a fitted model; otherwise ValueError."""
        found: dict[str, dict[int, np.ndarray]] = {name: {} for name in (*PER_CLASS, "quantiles")}
        for key, array in arrays.items():
            match = ARRAY_NAME.fullmatch(key)
            if not match or not np.isfinite(array).all():
                raise ValueError(f"the array {key} has an unknown name or impossible values")
            found[match[1]][int(match[2])] = array
        _check_centers(found["centers"], found["spreads"], found["counts"])
        _check_quantiles(found["quantiles"])
        for name, by_class in found.items():
            setattr(self, f"{name}_", by_class)
        width = next(iter(self.centers_.values())).shape[1]
        names = {str(c) for c in self.centers_}
        if not isinstance(state, dict) or state.get("n_features_in") != width:
            raise ValueError("its state does not fit the centres")
        inertia, too_small = state.get("inertia"), state.get("too_small")
        if not isinstance(inertia, dict) or inertia.keys() != names or not all(map(_is_amount, inertia.values())):
            raise ValueError("its inertia does not fit the centres")
        if not isinstance(too_small, list) or not all(type(c) is int and c in self.centers_ for c in too_small):
            raise ValueError("its small classes are not among the centres")
        self.inertia_ = {int(c): float(v) for c, v in inertia.items()}
        self.too_small_, self.n_features_in_ = too_small, width

    def _check_parameters(self) -> None:
        for name, low, high in (
            ("n_clusters", 1, MAX_COUNT),
            ("n_init", 1, MAX_COUNT),
            ("max_iter", 1, MAX_COUNT),
            ("min_samples_per_cluster", 1, MAX_COUNT),
            ("random_state", 0, MAX_SEED),
        ):
            whole(name, getattr(self, name), low, high, ClusteringError)
        if self.spread not in ("class", "cluster"):
            raise ClusteringError(f"spread is 'class' or 'cluster', not {self.spread!r}.")
        if not isinstance(self.refit_per_image, bool | np.bool_):
            raise ClusteringError(f"refit_per_image is True or False, not {self.refit_per_image!r}.")

    def _ask_for_fit(self) -> None:
        if not hasattr(self, "centers_"):
            raise ClusteringError("This ClassKMeans is not fitted; call fit, or load a fitted one.")

    def _fitting(self, X: np.ndarray) -> np.ndarray:
        """Vectors that may be measured against the centres."""
        self._ask_for_fit()
        return vectors(X, ClusteringError, self.n_features_in_)


def _sample(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and classes to learn from."""
    X = finite(vectors(X, ClusteringError), ClusteringError)
    if not len(X) or not X.shape[1]:
        raise ClusteringError(f"There are no vectors to learn from: {X.shape}.")
    if max(X.max(), -X.min()) > MAX_VALUE:
        raise ClusteringError(f"The vectors hold numbers beyond {MAX_VALUE:g}; check the segmenter's features.")
    return X, train_ids(y, len(X), ClusteringError)


def _check_centers(
    centers: dict[int, np.ndarray], spreads: dict[int, np.ndarray], counts: dict[int, np.ndarray]
) -> None:
    """ValueError unless each class has centres of one width, each with a spread and a count."""
    if not centers or not centers.keys() == spreads.keys() == counts.keys():
        raise ValueError("centres, spreads and counts are not of the same classes")
    for c, center in centers.items():
        k = len(center) if center.ndim == 2 else 0
        if not k or not center.shape[1] or center.dtype != np.float32 or np.abs(center).max() > MAX_VALUE:
            raise ValueError(f"the centres of class {c} are impossible")
        if spreads[c].shape != (k,) or spreads[c].dtype != np.float32 or spreads[c].min() < MIN_SPREAD:
            raise ValueError(f"the spreads of class {c} are impossible")
        if counts[c].shape != (k,) or counts[c].dtype != np.int64 or counts[c].min() < 0:
            raise ValueError(f"the counts of class {c} are impossible")
    if len({center.shape[1] for center in centers.values()}) > 1:
        raise ValueError("centres differ in width")


def _check_quantiles(quantiles: dict[int, np.ndarray]) -> None:
    """ValueError unless all are rising distances, and the pooled ones are among them."""
    if quantiles and -1 not in quantiles:
        raise ValueError("the pooled distances are missing")
    for c, q in quantiles.items():
        if q.ndim != 1 or not len(q) or q.dtype != np.float32 or q[0] < 0 or (np.diff(q) < 0).any():
            raise ValueError(f"the distances of class {c} are not sorted")


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < np.inf


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
