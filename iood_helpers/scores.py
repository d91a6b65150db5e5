"""The rivals: scores of how strange each cell of an image is, all with one signature.

A score is made with its settings, learns from ordinary pixels by ``fit(bank)``, and gives ``score(prediction)``:
(h, w) float32 on the stride-4 grid, higher is stranger. None of them sees a label of a test image or an unknown object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import logsumexp, softmax
from sklearn.cluster import KMeans
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from .clustering import ClassKMeans
from .embeddings import Level, PixelEmbedder
from .errors import RefinementError

if TYPE_CHECKING:
    from .segmenter import Prediction
    from .store import Embeddings


@dataclass(frozen=True)
class Bank:
    """Ordinary pixels to learn from.

    Attributes
    ----------
    embedder
        Makes the vectors (standardised, fitted).
    vectors, label
        (n, D) float32 and (n,) true classes of pixels to fit on.
    decoder, logits
        (n, d) and (n, 19): what the classifier sees and says at these pixels.
    held_vectors, held_predicted
        Pixels of other images with their predicted classes, to calibrate on.
    held_images
        Predictions of a few of these images, for scores that are measured on whole maps.
    """

    embedder: PixelEmbedder
    vectors: np.ndarray
    label: np.ndarray
    decoder: np.ndarray
    logits: np.ndarray
    held_vectors: np.ndarray
    held_predicted: np.ndarray
    held_images: Sequence[Prediction] = ()

    @classmethod
    def from_rows(
        cls,
        rows: Embeddings,
        held: Embeddings,
        widths: Mapping[Level, int],
        levels: Sequence[Level],
        *,
        standardize: bool = True,
        held_images: Sequence[Prediction] = (),
    ) -> Bank:
        """Bank for some levels from rows that hold more.

        Parameters
        ----------
        rows, held
            Raw vectors of pixels to fit on and to calibrate on.
        widths
            Numbers that each level has in these vectors, in their order; "decoder" and "logits" must be among them.
        levels
            Levels that the distances shall see, in the order of ``widths``.
        standardize
            Whether each channel is standardised.
        held_images
            As above.
        """
        ends = np.cumsum(list(widths.values()))
        columns = {level: np.arange(end - widths[level], end) for level, end in zip(widths, ends, strict=True)}
        chosen = np.concatenate([columns[level] for level in levels])
        embedder = PixelEmbedder(levels, standardize=standardize).fit(rows.embeddings[:, chosen])
        return cls(
            embedder=embedder,
            vectors=embedder.apply(rows.embeddings[:, chosen]),
            label=rows.label,
            decoder=rows.embeddings[:, columns["decoder"]],
            logits=rows.embeddings[:, columns["logits"]],
            held_vectors=embedder.apply(held.embeddings[:, chosen]),
            held_predicted=held.predicted,
            held_images=held_images,
        )


class Score(Protocol):
    """What every score offers."""

    def fit(self, bank: Bank) -> Score:
        """Learn from ordinary pixels."""

    def score(self, prediction: Prediction) -> np.ndarray:
        """(h, w) float32, higher is stranger."""


class _Untrained:
    """Base of scores that need nothing but the logits."""

    def fit(self, bank: Bank) -> Score:
        return self


class MaxSoftmax(_Untrained):
    """One minus the largest probability (Hendrycks and Gimpel, ICLR 2017)."""

    def score(self, prediction: Prediction) -> np.ndarray:
        return 1 - softmax(prediction.logits, axis=0).max(0)


class MaxLogit(_Untrained):
    """Minus the largest logit (Hendrycks et al., ICML 2022)."""

    def score(self, prediction: Prediction) -> np.ndarray:
        return -prediction.logits.max(0)


class Energy(_Untrained):
    """Minus log-sum-exp of the logits (Liu et al., NeurIPS 2020)."""

    def score(self, prediction: Prediction) -> np.ndarray:
        return -logsumexp(prediction.logits, axis=0)


class LogOdds(_Untrained):
    """Minus the log-odds of the largest probability: ranks as it does, but averages better over neighbours."""

    def score(self, prediction: Prediction) -> np.ndarray:
        others = np.partition(prediction.logits, -1, axis=0)[:-1]
        return logsumexp(others, axis=0) - prediction.logits.max(0)


class Entropy(_Untrained):
    """Entropy of the probabilities in nats."""

    def score(self, prediction: Prediction) -> np.ndarray:
        log_p = prediction.logits - logsumexp(prediction.logits, axis=0)
        return -(np.exp(log_p) * log_p).sum(0)


class StandardizedMaxLogit:
    """Largest logit, measured by mean and spread of its class (Jung et al., ICCV 2021)."""

    def fit(self, bank: Bank) -> StandardizedMaxLogit:
        largest, said = bank.logits.max(1), bank.logits.argmax(1)
        self.mean_, self.scale_ = np.full(19, largest.mean()), np.full(19, largest.std())
        for c in np.unique(said):
            if (said == c).sum() > 1:
                self.mean_[c], self.scale_[c] = largest[said == c].mean(), max(largest[said == c].std(), 1e-6)
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        said = prediction.logits.argmax(0)
        return (self.mean_[said] - prediction.logits.max(0)) / self.scale_[said]


class Mahalanobis:
    """Squared distance to the nearest class mean under one covariance of all classes (Lee et al., NeurIPS 2018)."""

    def fit(self, bank: Bank) -> Mahalanobis:
        classes = np.unique(bank.label)
        means = np.stack([bank.vectors[bank.label == c].mean(0) for c in classes])
        centred = bank.vectors - means[np.searchsorted(classes, bank.label)]
        precision = EmpiricalCovariance(assume_centered=True).fit(centred).precision_
        # Distances under the covariance are plain distances after this map.
        values, axes = np.linalg.eigh(precision)
        self.map_ = (axes * np.sqrt(np.maximum(values, 0))).astype(np.float32)
        self.means_, self.embedder_ = means @ self.map_, bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        grid = self.embedder_.transform_grid(prediction)
        x = grid.reshape(-1, grid.shape[-1]) @ self.map_
        return np.min([((x - mean) ** 2).sum(1) for mean in self.means_], axis=0).reshape(grid.shape[:2])


class ViM:
    """What the principal subspace of the decoder's features leaves over, minus energy (Wang et al., CVPR 2022).

    Parameters
    ----------
    components
        Dimension of the principal subspace.
    """

    def __init__(self, components: int = 19) -> None:
        self.components = components

    def fit(self, bank: Bank) -> ViM:
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


class NearestNeighbour:
    """Distance to the k-th nearest ordinary pixel, in vectors of unit length (Sun et al., ICML 2022).

    Parameters
    ----------
    k
        Which neighbour.
    bank_size
        Ordinary pixels to compare with, drawn with ``seed``.
    seed
        See above.
    """

    def __init__(self, k: int = 5, bank_size: int = 4000, seed: int = 0) -> None:
        self.k, self.bank_size, self.seed = k, bank_size, seed

    def _chosen(self, bank: Bank) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(len(bank.vectors))[: self.bank_size]

    def fit(self, bank: Bank) -> NearestNeighbour:
        vectors = _unit(bank.vectors[self._chosen(bank)])
        self.index_ = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(vectors)
        self.embedder_ = bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        grid = self.embedder_.transform_grid(prediction)
        distance, _ = self.index_.kneighbors(_unit(grid.reshape(-1, grid.shape[-1])))
        return distance[:, -1].reshape(grid.shape[:2])


class NearestNeighbourGuidance(NearestNeighbour):
    """Energy times similarity to ordinary pixels, weighted by theirs: kNN x energy (Park et al., ICCV 2023).

    Parameters as of :class:`NearestNeighbour`; ``k`` neighbours are averaged.
    """

    def fit(self, bank: Bank) -> NearestNeighbourGuidance:
        chosen = self._chosen(bank)
        # Energies must be positive to be factors; a shift of all of them leaves the soft-max as it is.
        energy = logsumexp(bank.logits, axis=1)
        self.shift_ = float(min(energy.min(), 0.0))
        self.guide_ = _unit(bank.vectors[chosen]) * (energy[chosen] - self.shift_)[:, None].astype(np.float32)
        self.embedder_ = bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        grid = self.embedder_.transform_grid(prediction)
        similar = _unit(grid.reshape(-1, grid.shape[-1])) @ self.guide_.T
        k = min(self.k, similar.shape[1])
        nearest = np.partition(similar, -k, axis=1)[:, -k:].mean(1).reshape(grid.shape[:2])
        return -nearest * np.maximum(logsumexp(prediction.logits, axis=0) - self.shift_, 0)


class KMeansDistance:
    """Distance to the nearest centre of the predicted class, relative to ordinary pixels (this course).

    Parameters
    ----------
    n_clusters, n_init, seed
        As in ``ClassKMeans``.
    quantile
        As in ``novelty_map``.
    """

    def __init__(self, n_clusters: int = 30, n_init: int = 1, quantile: float = 0.85, seed: int = 0) -> None:
        self.n_clusters, self.n_init, self.quantile, self.seed = n_clusters, n_init, quantile, seed

    def fit(self, bank: Bank) -> KMeansDistance:
        self.kmeans_ = ClassKMeans(self.n_clusters, n_init=self.n_init, random_state=self.seed)
        self.kmeans_.fit(bank.vectors, bank.label)
        self.kmeans_.calibrate(bank.held_vectors, bank.held_predicted)
        self.embedder_ = bank.embedder
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        said = prediction.logits.argmax(0)
        vectors = self.embedder_.transform_grid(prediction).reshape(said.size, -1)
        usual = self.kmeans_.held_out_quantile(said.ravel(), self.quantile)
        return (self.kmeans_.scaled_distance(vectors, said.ravel()) / np.maximum(usual, 1e-6)).reshape(said.shape)


class PerImageClustering(_Untrained):
    """Clusters of the image itself; a cluster is as strange as the mean of its cells' maximum logits says.

    After "Training-Free Out-Of-Distribution Segmentation With Foundation Models" (arXiv 2510.02909), whose exact level,
    number of clusters and threshold are not known to us: here they are parameters, and the threshold is left to the
    ranking.

    Parameters
    ----------
    level, n_clusters, seed
        Level of the pyramid, clusters per image, and seed.
    """

    def __init__(self, level: int = 2, n_clusters: int = 20, seed: int = 0) -> None:
        self.level, self.n_clusters, self.seed = level, n_clusters, seed

    def score(self, prediction: Prediction) -> np.ndarray:
        grid = PixelEmbedder((self.level,)).transform_grid(prediction)
        x = grid.reshape(-1, grid.shape[-1])
        model = KMeans(min(self.n_clusters, len(x)), n_init=1, max_iter=50, random_state=self.seed).fit(x)
        sure = prediction.logits.max(0).ravel()
        size = np.maximum(np.bincount(model.labels_, minlength=model.n_clusters), 1)
        mean = np.bincount(model.labels_, sure, model.n_clusters) / size
        return -mean[model.labels_].reshape(grid.shape[:2])


class Sum:
    """Several scores, each measured by mean and spread over ordinary images, added.

    Parameters
    ----------
    *scores
        What to add.
    """

    def __init__(self, *scores: Score) -> None:
        self.scores = scores

    def fit(self, bank: Bank) -> Sum:
        """Fit the parts, and learn mean and spread of each on the held images of the bank.

        Raises
        ------
        RefinementError
            If the bank has no held images.
        """
        if not bank.held_images:
            raise RefinementError("A sum of scores has to know their spread; give the bank some held images.")
        fitted = [score.fit(bank) for score in self.scores]
        return self.scale([[score.score(prediction) for prediction in bank.held_images] for score in fitted])

    def scale(self, maps: Sequence[Sequence[np.ndarray]]) -> Sum:
        """Learn mean and spread of parts that are fitted already, from maps of each part over some ordinary images."""
        self.moments_ = [moments(part) for part in maps]
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        return self.combine([score.score(prediction) for score in self.scores])

    def combine(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """The sum, from the map of each part: where parts serve several sums, each is computed once."""
        return np.sum([(part - m) / d for part, (m, d) in zip(maps, self.moments_, strict=True)], axis=0)


def smoothed(values: np.ndarray, sigma: float = 4.0) -> np.ndarray:
    """Gaussian mean of a map (h, w) over its neighbours, standard deviation in cells."""
    return gaussian_filter(values, sigma, mode="nearest")


def moments(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation (at least 1e-9) of maps of any sizes, over all their cells."""
    values = np.concatenate([np.ravel(one) for one in maps])
    return float(values.mean()), float(max(values.std(), 1e-9))


def as_confidence(values: np.ndarray, middle: float, spread: float) -> np.ndarray:
    """Scores as confidences 0..1 for the metrics, which depend on their order only.

    ``1/2 - arctan((values - middle) / spread) / pi``: falls strictly, and keeps apart what lies far out, where a
    sigmoid would round to 0 or 1.
    """
    return 0.5 - np.arctan((np.asarray(values, np.float64) - middle) / spread) / np.pi


def stored_bytes(score: Score) -> int:
    """Bytes of all arrays that a fitted score keeps, without the embedder that all share."""
    total, todo = 0, [score]
    while todo:
        item = todo.pop()
        if isinstance(item, np.ndarray):
            total += item.nbytes
        elif isinstance(item, Mapping):
            todo.extend(item.values())
        elif isinstance(item, (list, tuple)):
            todo.extend(item)
        elif hasattr(item, "__dict__") and not isinstance(item, (PixelEmbedder, type)):
            todo.extend(vars(item).values())
    return total


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
