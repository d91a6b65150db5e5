"""Detectors that measure how far the features of a pixel lie from those of in-distribution pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from ..method.distances import Distances
from ..method.embedder import PixelEmbedder
from ..method.kmeans import ClassKMeans
from .base import FeatureBank, Untrained

if TYPE_CHECKING:
    from ..model.segmenter import Prediction


ROWS = 8192
"""Vectors of a batch: a scene of 2048 x 1024 has 131 072, and each may have thousands of neighbours."""


def _by_rows(function: Callable[[np.ndarray], np.ndarray], vectors: np.ndarray) -> np.ndarray:
    """``function`` of all vectors, (h, w, D) to (h, w), with memory for ``ROWS`` of them."""
    rows = vectors.reshape(-1, vectors.shape[-1])
    parts = [function(rows[part]) for part in gen_batches(len(rows), ROWS)]
    return np.concatenate(parts).reshape(vectors.shape[:2])


class Mahalanobis:
    """Squared distance to the nearest class mean under one covariance of all classes (Lee et al., NeurIPS 2018)."""

    def fit(self, bank: FeatureBank) -> Mahalanobis:
        classes = np.unique(bank.label)
        means = np.stack([bank.vectors[bank.label == c].mean(0) for c in classes])
        centered = bank.vectors - means[np.searchsorted(classes, bank.label)]
        precision = EmpiricalCovariance(assume_centered=True).fit(centered).precision_
        # Distances under the covariance are plain distances after this map.
        values, axes = np.linalg.eigh(precision)
        self.map_ = (axes * np.sqrt(np.maximum(values, 0))).astype(np.float32)
        self.means_, self.embedder_ = means @ self.map_, bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        return _by_rows(self._squared, self.embedder_.transform_grid(prediction))

    def _squared(self, vectors: np.ndarray) -> np.ndarray:
        x = vectors @ self.map_
        return np.min([((x - mean) ** 2).sum(1) for mean in self.means_], axis=0)


class ViM:
    """Residual of the decoder's features outside of their principal subspace, minus energy (Wang et al., CVPR 2022).

    Parameters
    ----------
    components : int, default=19
        Dimension of the principal subspace.
    """

    def __init__(self, components: int = 19) -> None:
        self.components = components

    def fit(self, bank: FeatureBank) -> ViM:
        self.pca_ = PCA(min(self.components, bank.decoder.shape[1] - 1)).fit(bank.decoder)
        residual = self._residual(bank.decoder)
        self.alpha_ = float(bank.logits.max(1).mean() / max(residual.mean(), 1e-9))
        return self

    def _residual(self, x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x - self.pca_.inverse_transform(self.pca_.transform(x)), axis=1)

    def score(self, prediction: Prediction) -> np.ndarray:
        d, h, w = prediction.decoder.shape
        residual = self._residual(prediction.decoder.reshape(d, -1).T).reshape(h, w)
        return self.alpha_ * residual - logsumexp(prediction.logits, axis=0)


class NearestNeighbor:
    """Distance to the k-th nearest pixel of the bank, in vectors of unit length (Sun et al., ICML 2022).

    Parameters
    ----------
    k : int, default=5
        Which neighbour.
    bank_size : int, default=4000
        Pixels of the bank to compare with, drawn with ``seed``.
    seed : int, default=0
        See above.
    """

    def __init__(self, k: int = 5, bank_size: int = 4000, seed: int = 0) -> None:
        self.k, self.bank_size, self.seed = k, bank_size, seed

    def _chosen(self, bank: FeatureBank) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(len(bank.vectors))[: self.bank_size]

    def fit(self, bank: FeatureBank) -> NearestNeighbor:
        vectors = _unit(bank.vectors[self._chosen(bank)])
        self.index_ = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(vectors)
        self.embedder_ = bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        return _by_rows(self._farthest, self.embedder_.transform_grid(prediction))

    def _farthest(self, vectors: np.ndarray) -> np.ndarray:
        return self.index_.kneighbors(_unit(vectors))[0][:, -1]


class NearestNeighborGuidance(NearestNeighbor):
    """Energy times similarity to pixels of the bank, weighted by theirs: kNN x energy (Park et al., ICCV 2023).

    Parameters as of :class:`NearestNeighbor`; ``k`` neighbours are averaged.
    """

    def fit(self, bank: FeatureBank) -> NearestNeighborGuidance:
        chosen = self._chosen(bank)
        # Energies must be positive to be factors; a shift of all of them leaves the soft-max as it is.
        energy = logsumexp(bank.logits, axis=1)
        self.shift_ = float(min(energy.min(), 0.0))
        self.guide_ = _unit(bank.vectors[chosen]) * (energy[chosen] - self.shift_)[:, None].astype(np.float32)
        self.embedder_ = bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        nearest = _by_rows(self._nearest, self.embedder_.transform_grid(prediction))
        return -nearest * np.maximum(logsumexp(prediction.logits, axis=0) - self.shift_, 0)

    def _nearest(self, vectors: np.ndarray) -> np.ndarray:
        similar = _unit(vectors) @ self.guide_.T
        k = min(self.k, similar.shape[1])
        return np.partition(similar, -k, axis=1)[:, -k:].mean(1)


class KMeansDistance:
    """Distance to the nearest centre of the predicted class, relative to calibration pixels (this course).

    Parameters
    ----------
    n_clusters, n_init, seed : int, default=30, 1, 0
        As in ``ClassKMeans``.
    quantile : float, default=0.85
        As in ``novelty_map``.
    """

    def __init__(self, n_clusters: int = 30, n_init: int = 1, quantile: float = 0.85, seed: int = 0) -> None:
        self.n_clusters, self.n_init, self.quantile, self.seed = n_clusters, n_init, quantile, seed

    def fit(self, bank: FeatureBank) -> KMeansDistance:
        self.kmeans_ = ClassKMeans(self.n_clusters, n_init=self.n_init, random_state=self.seed)
        self.kmeans_.fit(bank.vectors, bank.label)
        self.kmeans_.calibrate(bank.calibration_vectors, bank.calibration_predicted)
        self.embedder_ = bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        return Distances(prediction, self.kmeans_, self.embedder_).relative(self.quantile)


class SharedKMeansDistance:
    """Distance to the nearest centre that all classes share, averaged in part over segments (this course).

    Parameters
    ----------
    n_shared, seed : int, default=1000, 0
        As in ``ClassKMeans``.
    segment : float, default=0.5
        As in ``Distances.averaged``.
    """

    def __init__(self, n_shared: int = 1000, segment: float = 0.5, seed: int = 0) -> None:
        self.n_shared, self.segment, self.seed = n_shared, segment, seed

    def fit(self, bank: FeatureBank) -> SharedKMeansDistance:
        self.kmeans_ = ClassKMeans(1, n_init=1, n_shared=self.n_shared, random_state=self.seed)
        self.kmeans_.fit(bank.vectors, np.zeros(len(bank.vectors), int))
        self.embedder_ = bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        return Distances(prediction, self.kmeans_, self.embedder_).averaged(0, self.segment)


class PerImageClustering(Untrained):
    """Clusters of the image itself, each scored by minus the mean of its cells' maximum logits.

    After "Training-Free Out-Of-Distribution Segmentation With Foundation Models" (arXiv 2510.02909), whose exact level,
    number of clusters and threshold are not known to us: here they are parameters, and no threshold is needed to rank.

    Parameters
    ----------
    level, n_clusters, seed : int, default=2, 20, 0
        Level of the pyramid, clusters per image, and seed.
    """

    def __init__(self, level: int = 2, n_clusters: int = 20, seed: int = 0) -> None:
        self.level, self.n_clusters, self.seed = level, n_clusters, seed

    def score(self, prediction: Prediction) -> np.ndarray:
        grid = PixelEmbedder((self.level,)).transform_grid(prediction)
        x = grid.reshape(-1, grid.shape[-1])
        model = KMeans(min(self.n_clusters, len(x)), n_init=1, max_iter=50, random_state=self.seed).fit(x)
        largest = prediction.logits.max(0).ravel()
        size = np.maximum(np.bincount(model.labels_, minlength=model.n_clusters), 1)
        mean = np.bincount(model.labels_, largest, model.n_clusters) / size
        return -mean[model.labels_].reshape(grid.shape[:2])


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
