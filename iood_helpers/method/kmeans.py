"""What is normal: one KMeans per class, one for all, and how far in-distribution pixels lie from their centres."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, gen_batches
from tqdm.auto import tqdm

from ..checks import MAX_SEED, finite, train_ids, vectors, whole
from ..datasets.labels import NUM_CLASSES
from ..errors import ClusteringError
from ..renamed import warn
from .saved_clusters import MAX_VALUE, read_clusters, write_clusters
from .statistics import DistanceStatistics

BATCH_ROWS = 65_536
MAX_QUANTILES = 2000
START_ROWS_PER_CLUSTER = 200
"""With more pixels per cluster than this, k-means++ chooses the first centres from a sample: among all of them it takes
longer than what follows, and the result is no better."""
MIN_CALIBRATION = 50
"""Classes with fewer calibration pixels use the pooled distribution of all classes."""
MAX_COUNT = 1_000_000
SHARED_ROWS_PER_CLUSTER = 20
"""Shared centres are fitted on at most so many rows for each: more change little, and a thousand centres take long."""
SHARED_ROUNDS = 30


class NotFitted(ClusteringError, NotFittedError):
    """A model is asked before its fit, in this package's words and in scikit-learn's."""


class ClassKMeans(TransformerMixin, BaseEstimator):
    """KMeans for each class (train ids 0..18), with distances in units of how far the pixels of the fit lie.

    Parameters
    ----------
    n_clusters : int, default=30
        Centres per class; rare classes get fewer (see ``min_samples_per_cluster``).
    n_init, max_iter : int, default=3, 100
        As in scikit-learn's ``KMeans``.
    min_samples_per_cluster : int, default=10
        A class of n pixels gets at most ``n // min_samples_per_cluster`` centres, and at least one.
    n_shared : int, default=0
        Centres of one more KMeans, which all classes share; at most one for five pixels. 0 for none.
    random_state : int, default=0
        Seed, 0..2**32 - 1.

    Attributes
    ----------
    centers_ : dict of int to numpy.ndarray
        Class to (k, D) float32.
    counts_ : dict of int to numpy.ndarray
        Class to (k,) int64: pixels of each cluster.
    inertia_ : dict of int to float
        Class to the sum of squared distances to the nearest centre.
    quantiles_ : dict of int to numpy.ndarray
        Class (and -1 for all) to sorted distances of calibration pixels, (m,) float32; empty before :meth:`calibrate`.
    shared_centers_ : numpy.ndarray
        (k, D) float32, none without ``n_shared``.
    statistics_ : DistanceStatistics or None
        Of the distances to shared centres on whole images; set by ``calibrate_on_images``.
    """

    def __init__(
        self,
        n_clusters: int = 30,
        *,
        n_init: int = 3,
        max_iter: int = 100,
        min_samples_per_cluster: int = 10,
        n_shared: int = 0,
        random_state: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.max_iter = max_iter
        self.min_samples_per_cluster = min_samples_per_cluster
        self.n_shared = n_shared
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required, tags.transformer_tags.preserves_dtype = True, ["float32"]
        return tags

    def fit(self, X: np.ndarray, y: np.ndarray) -> ClassKMeans:
        """Fit the centres.

        Parameters
        ----------
        X : numpy.ndarray
            (n, D) vectors.
        y : numpy.ndarray
            (n,) train ids 0..18.

        Raises
        ------
        ClusteringError
            If there is nothing to fit, shapes differ, ids are out of range, values are NaN or infinite, or a parameter
            of the model is impossible.
        """
        self._check_parameters()
        X, y = _sample(X, y)
        self.centers_: dict[int, np.ndarray] = {}
        self.counts_: dict[int, np.ndarray] = {}
        self.inertia_: dict[int, float] = {}
        self.quantiles_: dict[int, np.ndarray] = {}
        for c in np.unique(y):
            self._fit_class(int(c), X[y == c])
        self.statistics_: DistanceStatistics | None = None
        self.shared_centers_ = self._fit_shared(X)
        return self

    def _fit_class(self, c: int, x: np.ndarray) -> None:
        k = max(1, min(self.n_clusters, len(x) // self.min_samples_per_cluster))
        init = "k-means++" if len(x) <= START_ROWS_PER_CLUSTER * k else _start_from_a_sample
        model = KMeans(k, init=init, n_init=self.n_init, max_iter=self.max_iter, random_state=self.random_state).fit(x)
        self.centers_[c] = model.cluster_centers_.astype(np.float32)
        self.counts_[c] = np.bincount(model.labels_, minlength=k)
        self.inertia_[c] = float(model.inertia_)

    def _fit_shared(self, x: np.ndarray) -> np.ndarray:
        if not self.n_shared:
            return np.zeros((0, x.shape[1]), np.float32)
        rows = np.random.default_rng(self.random_state).permutation(len(x))[: SHARED_ROWS_PER_CLUSTER * self.n_shared]
        k = max(1, min(self.n_shared, len(rows) // 5))
        model = KMeans(k, n_init=1, max_iter=SHARED_ROUNDS, random_state=self.random_state).fit(x[rows])
        return model.cluster_centers_.astype(np.float32)

    def leaving_out(self, X: np.ndarray, y: np.ndarray, images: np.ndarray) -> dict[int, ClassKMeans]:
        """Fits with the same parameters, each without the rows of one image, by the image's number.

        They tell how far unseen images lie where there are too few to keep some aside.

        Parameters
        ----------
        X, y : numpy.ndarray
            As for :meth:`fit`.
        images : numpy.ndarray
            (n,) number of the image of each row, as ``Embeddings.image`` has it.

        Raises
        ------
        ClusteringError
            As :meth:`fit` does; also if all rows are of one image.
        """
        return {int(i): clone(self).fit(X[images != i], y[images != i]) for i in tqdm(np.unique(images), "leaving out")}

    @property
    def scales_(self) -> dict[int, float]:
        """Class to the unit of scaled distances: the root mean square distance of its pixels to their centres."""
        return {c: max(float(np.sqrt(self.inertia_[c] / n.sum())), 1e-6) for c, n in self.counts_.items()}

    @property
    def too_small_(self) -> list[int]:
        """Classes that had fewer pixels than ``n_clusters``; the published code raises an error there."""
        return [c for c, n in self.counts_.items() if n.sum() < self.n_clusters]

    @property
    def n_features_in_(self) -> int:
        """Numbers of each vector."""
        return next(iter(self.centers_.values())).shape[1]

    @property
    def spreads_(self) -> dict[int, np.ndarray]:
        """Old form of :attr:`scales_`: class to (k,) float32."""
        warn("ClassKMeans.spreads_", "scales_")
        return {c: np.full(len(self.centers_[c]), scale, np.float32) for c, scale in self.scales_.items()}

    def distances(self, X: np.ndarray, c: int) -> np.ndarray:
        """Euclidean distances (n, k) to the centres of class c.

        Raises
        ------
        ClusteringError
            If class c has no centres, or vectors hold NaN or have another width than those of :meth:`fit`.
        """
        X, c = self._fitting(X), int(train_ids(np.array([c]), 1, ClusteringError)[0])
        if c not in self.centers_:
            raise ClusteringError(f"Class {c} has no centres; there are some of {sorted(self.centers_)}.")
        return self._distances(X, c)

    def _distances(self, x: np.ndarray, c: int) -> np.ndarray:
        return self._to_centers(x, self.centers_[c])

    @staticmethod
    def _to_centers(x: np.ndarray, centers: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            squared = _squared_distances(x, centers)
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
            for rows in gen_batches(max(len(X), 1), BATCH_ROWS):
                out[rows, c] = self._distances(X[rows], c).min(1)
        return out

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class of the nearest centre, (n,) uint8."""
        return self.transform(X).argmin(1).astype(np.uint8)

    def predict_cluster(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Index of the nearest centre of class y, (n,) int64; -1 where the class has none."""
        return self._nearest(X, y)[1]

    def scaled_distance(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance to the nearest centre of class y in units of that class's scale, (n,) float32.

        Pixels of a class without centres are measured against all centres of all classes.
        """
        return self._nearest(X, y)[0]

    def shared_distance(self, X: np.ndarray) -> np.ndarray:
        """Distance to the nearest of all shared centres, (n,) float32; a fit without ``n_shared`` has none."""
        X = self._fitting(X)
        distance = np.full(len(X), np.inf, np.float32)
        for rows in gen_batches(max(len(X), 1), BATCH_ROWS // 4):
            distance[rows] = self._to_centers(X[rows], self.shared_centers_).min(1)
        return distance

    def score_samples(self, X: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Normality, higher is more normal: minus the scaled distance to class y (or to the nearest class)."""
        if y is not None:
            return -self.scaled_distance(X, y)
        distance, scales = self.transform(X), self.scales_
        return -(distance[:, list(scales)] / np.array(list(scales.values()), np.float32)).min(1)

    def _nearest(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        X = self._fitting(X)
        y = train_ids(y, len(X), ClusteringError)
        distance, cluster, scales = np.zeros(len(X), np.float32), np.full(len(X), -1), self.scales_
        for c in np.unique(y):
            rows = np.flatnonzero(y == c)
            for part in gen_batches(len(rows), BATCH_ROWS):
                chosen = rows[part]
                if int(c) in self.centers_:
                    d = self._distances(X[chosen], int(c))
                    cluster[chosen] = d.argmin(1)
                    distance[chosen] = d.min(1) / scales[int(c)]
                else:
                    distance[chosen] = -self.score_samples(X[chosen])
        return distance, cluster

    def calibrate(
        self,
        X: np.ndarray,
        y: np.ndarray,
        images: np.ndarray | None = None,
        left_out: Mapping[int, ClassKMeans] | None = None,
    ) -> ClassKMeans:
        """Learn how far in-distribution pixels lie.

        Parameters
        ----------
        X, y : numpy.ndarray
            Vectors (n, D) and classes (n,) of images that :meth:`fit` has not seen.
        images, left_out : numpy.ndarray and mapping of int to ClassKMeans, optional
            If it has seen them: the number (n,) of the image of each vector, and what :meth:`leaving_out` gives for
            these images. Each vector is measured by the clusters that have not seen it; they are calibrated alike.

        Raises
        ------
        ClusteringError
            As :meth:`fit` does.
        """
        self._fitting(X)
        X, y = _sample(X, y)
        distance, left_out = self.scaled_distance(X, y), left_out or {}
        for number, model in left_out.items():
            distance[images == number] = model.scaled_distance(X[images == number], y[images == number])
        self.quantiles_ = {-1: _thinned(distance)}
        for c in np.unique(y):
            if (y == c).sum() >= MIN_CALIBRATION:
                self.quantiles_[int(c)] = _thinned(distance[y == c])
        for model in left_out.values():
            model.quantiles_ = self.quantiles_
        return self

    def tail_probability(self, distance: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Share of calibration pixels of class y that lie at least this far: (n,) float64 in (0, 1]."""
        return self._by_class(y, distance, _tail)

    def calibration_quantile(self, y: np.ndarray, q: float) -> np.ndarray:
        """Scaled distance below which a share q (0..1) of the calibration pixels of class y lies, (n,) float64."""
        if not 0 <= q <= 1:
            raise ClusteringError(f"A share of pixels lies between 0 and 1, not at {q}.")
        return self._by_class(y, np.zeros(len(y)), lambda sorted_distances, _: np.quantile(sorted_distances, q))

    def held_out_quantile(self, y: np.ndarray, q: float) -> np.ndarray:
        """Old name of :meth:`calibration_quantile`."""
        warn("ClassKMeans.held_out_quantile", "calibration_quantile")
        return self.calibration_quantile(y, q)

    def _by_class(
        self, y: np.ndarray, values: np.ndarray, function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        if not getattr(self, "quantiles_", None):
            raise ClusteringError("This ClassKMeans is not calibrated; call calibrate first.")
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
        return write_clusters(self, path)

    @classmethod
    def load(cls, path: str | Path) -> ClassKMeans:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ClusteringError
            If the file is missing, damaged or of another kind, or its arrays are not those of a fitted model.
        """
        try:
            parameters, learned = read_clusters(path)
            if parameters.keys() != cls().get_params().keys():
                raise ValueError("its parameters are not those of this version")
            model = cls(**parameters)
            model._check_parameters()
        except (ValueError, ClusteringError) as error:
            raise ClusteringError(f"The file {path} is not a saved ClassKMeans ({error}); fit it anew.") from error
        for name, value in learned.items():
            setattr(model, name, value)
        return model

    def _check_parameters(self) -> None:
        for name in ("n_clusters", "n_init", "max_iter", "min_samples_per_cluster"):
            whole(name, getattr(self, name), 1, MAX_COUNT, ClusteringError)
        whole("n_shared", self.n_shared, 0, MAX_COUNT, ClusteringError)
        whole("random_state", self.random_state, 0, MAX_SEED, ClusteringError)

    def _ask_for_fit(self) -> None:
        if not hasattr(self, "centers_"):
            raise NotFitted("This ClassKMeans is not fitted; call fit, or load a fitted one.")

    def _fitting(self, X: np.ndarray) -> np.ndarray:
        """Vectors that may be measured against the centres."""
        self._ask_for_fit()
        return vectors(X, ClusteringError, self.n_features_in_)


def _sample(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and classes to learn from."""
    if y is None:
        raise ClusteringError("ClassKMeans requires y to be passed, but the target y is None; give train ids 0..18.")
    X = finite(vectors(X, ClusteringError), ClusteringError)
    if not len(X) or not X.shape[1]:
        raise ClusteringError(f"There are no vectors to learn from: {X.shape}.")
    if max(X.max(), -X.min()) > MAX_VALUE:
        raise ClusteringError(f"The vectors hold numbers beyond {MAX_VALUE:g}; check the segmenter's features.")
    return X, train_ids(y, len(X), ClusteringError)


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


def _thinned(distance: np.ndarray) -> np.ndarray:
    if len(distance) <= MAX_QUANTILES:
        return np.sort(distance).astype(np.float32)
    return np.quantile(distance, np.linspace(0, 1, MAX_QUANTILES)).astype(np.float32)


def _tail(sorted_distances: np.ndarray, distance: np.ndarray) -> np.ndarray:
    n = len(sorted_distances)
    return (n - np.searchsorted(sorted_distances, distance, side="left") + 1) / (n + 1)
