"""What every detector learns from and offers, and what is done with its maps.

A detector is made with its settings, learns from in-distribution pixels by ``fit(bank)``, and gives
``score(prediction)``: (h, w) on the grid of the logits, higher is more unusual. None of them sees a label of a test
image or an unknown object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from scipy.ndimage import gaussian_filter

from ..datasets.labels import VOID
from ..method.embedder import Level, PixelEmbedder, grid_pixels

if TYPE_CHECKING:
    from ..method.store import EmbeddingStore
    from ..model.segmenter import Prediction


@dataclass(frozen=True)
class FeatureBank:
    """In-distribution pixels to learn from.

    Attributes
    ----------
    embedder : PixelEmbedder
        Makes the vectors (standardised, fitted).
    vectors, label : numpy.ndarray
        (n, D) float32 and (n,) true classes of pixels to fit on.
    decoder, logits : numpy.ndarray
        (n, d) and (n, 19) float32: what the classifier sees and gives at these pixels.
    calibration_vectors, calibration_predicted : numpy.ndarray
        (m, D) float32 and (m,) predicted classes of pixels of other images, to calibrate on.
    calibration_images : sequence of Prediction
        Predictions of a few of these images, for what is measured on whole maps.
    """

    embedder: PixelEmbedder
    vectors: np.ndarray
    label: np.ndarray
    decoder: np.ndarray
    logits: np.ndarray
    calibration_vectors: np.ndarray
    calibration_predicted: np.ndarray
    calibration_images: Sequence[Prediction] = ()

    @classmethod
    def from_stores(
        cls,
        store: EmbeddingStore,
        calibration_store: EmbeddingStore,
        levels: Sequence[Level],
        n_per_class: int | None = None,
        seed: int = 0,
        *,
        standardize: bool = True,
    ) -> FeatureBank:
        """Bank for some levels from stores of raw vectors; no other columns are read.

        Parameters
        ----------
        store, calibration_store : EmbeddingStore
            Pixels to fit on, with "decoder" and "logits" among their levels, and pixels to calibrate on.
        levels : sequence of int or str
            Levels that the distances use.
        n_per_class, seed : int
            As for ``EmbeddingStore.load``.
        standardize : bool, default=True
            Whether each channel is standardised.

        Raises
        ------
        EmbeddingError
            As ``EmbeddingStore.load``.
        """
        wanted = list(dict.fromkeys((*levels, "decoder", "logits")))
        rows = store.load(n_per_class, seed, levels=wanted)
        ends = np.cumsum([store.widths[level] for level in wanted])
        columns = dict(zip(wanted, np.split(rows.embeddings, ends[:-1], axis=1), strict=True))
        raw = np.concatenate([columns[level] for level in levels], axis=1)
        embedder = PixelEmbedder(levels, standardize=standardize).fit(raw)
        calibration = calibration_store.load(n_per_class, seed, levels=levels)
        return cls(
            embedder=embedder,
            vectors=embedder.apply(raw),
            label=rows.label,
            decoder=columns["decoder"].copy(),  # a view would keep all columns
            logits=columns["logits"].copy(),
            calibration_vectors=embedder.apply(calibration.embeddings),
            calibration_predicted=calibration.predicted,
        )

    @classmethod
    def from_predictions(
        cls,
        predictions: Sequence[Prediction],
        calibration: Sequence[Prediction],
        levels: Sequence[Level] = (0,),
        labels: Sequence[np.ndarray] | None = None,
        *,
        standardize: bool = True,
    ) -> FeatureBank:
        """Bank of all cells of a few images, without stores.

        Parameters
        ----------
        predictions, calibration : sequence of Prediction
            Of images to fit on, and of other images to calibrate on; ``Prediction.from_arrays`` makes them of arrays.
        levels : sequence of int or str
            Levels that the distances use.
        labels : sequence of numpy.ndarray, optional
            True classes (H, W) of the images to fit on, read at the centre of each cell; 255 (void) is left out.
            Predicted classes if not given.
        standardize : bool, default=True
            Whether each channel is standardised.

        Raises
        ------
        EmbeddingError
            If a prediction lacks a level, or there are no pixels to learn from.
        """
        embedder = PixelEmbedder(levels, standardize=standardize)
        classes = [
            _at_cells(p, p.logits.argmax(0) if labels is None else labels[number])
            for number, p in enumerate(predictions)
        ]
        known = np.concatenate(classes) != VOID
        raw = _cells([embedder.raw.transform_grid(p) for p in predictions])[known]
        embedder.fit(raw)
        return cls(
            embedder=embedder,
            vectors=embedder.apply(raw),
            label=np.concatenate(classes)[known],
            decoder=_cells([np.moveaxis(p.decoder, 0, -1) for p in predictions])[known],
            logits=_cells([np.moveaxis(p.logits, 0, -1) for p in predictions])[known],
            calibration_vectors=_cells([embedder.transform_grid(p) for p in calibration]),
            calibration_predicted=np.concatenate([p.logits.argmax(0).ravel() for p in calibration]),
            calibration_images=tuple(calibration),
        )


def _cells(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Vectors (n, D) of the cells of maps (h, w, D)."""
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])


def _at_cells(prediction: Prediction, values: np.ndarray) -> np.ndarray:
    """Values of a map, of pixels or of cells, at the centre of each cell: (h * w,)."""
    rows, columns = grid_pixels(prediction.logits.shape[1:], values.shape).round().astype(int).T
    return np.asarray(values)[rows, columns]


class Detector(Protocol):
    """What every detector offers."""

    def fit(self, bank: FeatureBank) -> Self:
        """Learn from in-distribution pixels; gives itself, and what it has learned has names that end in ``_``."""

    def score(self, prediction: Prediction) -> np.ndarray:
        """How unusual each cell is, (h, w), higher is more unusual."""


class Untrained:
    """Base of detectors that have nothing to learn."""

    def fit(self, bank: FeatureBank) -> Self:
        return self


def smoothed(values: np.ndarray, sigma: float = 4.0) -> np.ndarray:
    """Gaussian mean of a map (h, w) over its neighbours, standard deviation in cells."""
    return gaussian_filter(values, sigma, mode="nearest")


def moments(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation (at least 1e-9) of maps of any sizes, over all their cells."""
    values = np.concatenate([np.ravel(one) for one in maps])
    return float(values.mean()), float(max(values.std(), 1e-9))


def as_confidence(values: np.ndarray, center: float, scale: float) -> np.ndarray:
    """Scores as confidences 0..1 for the metrics, which depend on their order only.

    ``1/2 - arctan((values - center) / scale) / pi``: falls strictly, and keeps apart what lies far out, where a sigmoid
    would round to 0 or 1.
    """
    return 0.5 - np.arctan((np.asarray(values, np.float64) - center) / scale) / np.pi


def stored_bytes(detector: Detector) -> int:
    """Bytes of all arrays that a fitted detector keeps, without the embedder that all share."""
    total, todo = 0, [detector]
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
