"""From pixels to vectors: read the feature pyramid at single pixels, project, standardise.

A 1x1 convolution and bilinear enlarging are linear and act on different axes, so they commute: features are sampled
where they are needed and projected afterwards (or before, whichever costs less). No full-resolution feature map is
built, and the numbers are those of enlarging, concatenating and convolving.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

from .errors import EmbeddingError
from .files import write_atomically

if TYPE_CHECKING:
    from .segmenter import Prediction

PUBLISHED_DIM = 1536
BATCH_PIXELS = 16_384
Level = int | Literal["decoder", "logits"]
ALL_LEVELS: tuple[Level, ...] = (0, 1, 2, 3, "decoder", "logits")
"""Everything that a prediction offers: the pyramid, finest first, what the classifier sees, and what it says."""


def sample_bilinear(feature: np.ndarray, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values of a map at pixels of the image that it belongs to.

    Parameters
    ----------
    feature
        (C, h, w) float32.
    pixels
        (n, 2) rows and columns in the image, integers at pixel centres; fractions are allowed.
    size
        Height and width of the image.

    Returns
    -------
    numpy.ndarray
        (n, C) float32: what ``interpolate(mode="bilinear", align_corners=False)`` to ``size`` gives at these pixels.
    """
    return _weighted(_as_rows(feature), *_neighbours(feature.shape[1:], pixels, size))


def _as_rows(feature: np.ndarray) -> torch.Tensor:
    """(C, h, w) as (h * w, C) with the numbers of a cell side by side."""
    return torch.from_numpy(np.ascontiguousarray(feature)).flatten(1).T.contiguous()


def _neighbours(shape: tuple[int, int], pixels: np.ndarray, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells (n, 4) around each pixel in a map of a shape (h, w), and their weights (n, 4)."""
    limits, scale = np.array(shape) - 1, np.array(shape) / np.array(size)
    position = np.clip((np.asarray(pixels, np.float64) + 0.5) * scale - 0.5, 0, limits)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, limits)
    part = (position - low).astype(np.float32)
    cells = [y * shape[1] + x for y in (low[:, 0], high[:, 0]) for x in (low[:, 1], high[:, 1])]
    weights = [y * x for y in (1 - part[:, 0], part[:, 0]) for x in (1 - part[:, 1], part[:, 1])]
    return torch.from_numpy(np.stack(cells, 1)), torch.from_numpy(np.stack(weights, 1))


def _weighted(rows: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor) -> np.ndarray:
    """Weighted sum (n, C) of some rows; a library function meant for words does it without copies."""
    return F.embedding_bag(cells, rows, mode="sum", per_sample_weights=weights).numpy()


def grid_pixels(grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Centres of the cells of a grid over an image, as (n, 2) float64 rows and columns of the image, row by row."""
    rows, columns = ((np.arange(g) + 0.5) * s / g - 0.5 for g, s in zip(grid, size, strict=True))
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


class PixelEmbedder:
    """Feature vector of single pixels.

    Parameters
    ----------
    levels
        Levels of the pyramid (0 finest .. 3 coarsest), "decoder" (what the classifier sees) and "logits" (what it
        says), concatenated.
    projection
        None; "random": a 1x1 convolution with PyTorch's default initialisation, as the published code uses untrained;
        "pca": fitted by :meth:`fit`.
    dim
        Length of projected vectors; default 1536 for "random" (published) and 64 for "pca".
    standardize
        Whether each channel is centred and scaled with the statistics learned by :meth:`fit`.
    seed
        Seed of the projection.

    Raises
    ------
    EmbeddingError
        If a level or projection is unknown.
    """

    def __init__(
        self,
        levels: Sequence[Level] = (0, 1, 2, 3),
        projection: Literal["random", "pca"] | None = None,
        *,
        dim: int | None = None,
        standardize: bool = False,
        seed: int = 0,
    ) -> None:
        unknown = [level for level in levels if level not in ALL_LEVELS]
        if unknown or not levels:
            raise EmbeddingError(
                f"Levels {list(levels)} are not understood; choose from 0 to 3, 'decoder' and 'logits'."
            )
        if projection not in (None, "random", "pca"):
            raise EmbeddingError(f"Unknown projection {projection!r}; use None, 'random' or 'pca'.")
        self.levels = tuple(levels)
        self.projection = projection
        self.dim = dim or {"random": PUBLISHED_DIM, "pca": 64}.get(projection)
        self.standardize = standardize
        self.seed = seed
        self.mean_: np.ndarray | None = None
        self.scale_: np.ndarray | None = None
        self.weight_: np.ndarray | None = None  # (dim, C)
        self.bias_: np.ndarray | None = None  # (dim,)

    @property
    def parameters(self) -> dict:
        """Constructor arguments as plain values."""
        return {
            "levels": list(self.levels),
            "projection": self.projection,
            "dim": self.dim,
            "standardize": self.standardize,
            "seed": self.seed,
        }

    @property
    def raw(self) -> PixelEmbedder:
        """Embedder of the same features without standardisation and projection; :meth:`apply` adds both."""
        return PixelEmbedder(self.levels)

    def widths(self, prediction: Prediction) -> dict[Level | str, int]:
        """Numbers per vector of each level, in order; with a projection, which mixes them, ``{"projected": dim}``."""
        if self.projection is not None:
            return {"projected": self.dim}
        return dict(zip(self.levels, map(len, self._maps(prediction)), strict=True))

    def fit(self, raw: np.ndarray) -> PixelEmbedder:
        """Learn standardisation and PCA from vectors (n, C) of :attr:`raw`.

        Raises
        ------
        EmbeddingError
            If there are NaNs, or fewer vectors than PCA components.
        """
        raw = np.asarray(raw, np.float32)
        if not np.isfinite(raw).all():
            raise EmbeddingError("The training sample holds NaN or infinite values; check the segmenter's features.")
        if self.standardize:
            self.mean_ = raw.mean(0, dtype=np.float64).astype(np.float32)
            self.scale_ = np.maximum(raw.std(0, dtype=np.float64), 1e-6).astype(np.float32)
            raw = (raw - self.mean_) / self.scale_
        if self.projection == "pca":
            if min(raw.shape) < self.dim:
                raise EmbeddingError(f"PCA to {self.dim} components needs more than {raw.shape} values; lower dim.")
            pca = PCA(self.dim, random_state=self.seed).fit(raw)
            self.weight_ = pca.components_.astype(np.float32)
            self.bias_ = -(self.weight_ @ pca.mean_.astype(np.float32))
        return self

    def reinitialised(self, seed: int) -> PixelEmbedder:
        """Copy with another random projection: what the published code does between fitting and predicting."""
        if self.projection != "random":
            raise EmbeddingError("Only a random projection can be initialised anew; set projection='random'.")
        other = copy.copy(self)
        other.seed, other.weight_, other.bias_ = seed, None, None
        return other

    def transform(self, prediction: Prediction, pixels: np.ndarray) -> np.ndarray:
        """Vectors of pixels.

        Parameters
        ----------
        prediction
            Output of the segmenter for one image.
        pixels
            (n, 2) rows and columns in the image.

        Returns
        -------
        numpy.ndarray
            (n, D) float32.

        Raises
        ------
        EmbeddingError
            If features hold NaN, pixels lie outside the image, or :meth:`fit` is still to be called.
        """
        pixels = np.asarray(pixels).reshape(-1, 2)
        vectors = None
        for part, batch in self.batches(prediction, pixels):
            if vectors is None:
                vectors = np.empty((len(pixels), batch.shape[1]), np.float32)
            vectors[part] = batch
        return vectors

    def batches(self, prediction: Prediction, pixels: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """What :meth:`transform` gives, some thousand pixels at a time: (which of them, their vectors)."""
        pixels = np.asarray(pixels).reshape(-1, 2)
        size = prediction.size
        if len(pixels) and (pixels.min() < -0.5 or (pixels > np.array(size) - 0.5).any()):
            raise EmbeddingError(f"Some pixels lie outside the image of {size[0]} x {size[1]} pixels.")
        maps = self._maps(prediction)
        self._prepare(sum(len(m) for m in maps))
        ends = np.cumsum([len(m) for m in maps])
        weights, bias = [None] * len(maps), None
        if self.weight_ is not None:
            folded = self.weight_ / self.scale_ if self.standardize else self.weight_
            weights = [torch.from_numpy(folded[:, end - len(m) : end]) for end, m in zip(ends, maps, strict=True)]
            bias = self.bias_ - folded @ self.mean_ if self.standardize else self.bias_
        readers = [_reader(m, weight, len(pixels), size) for m, weight in zip(maps, weights, strict=True)]
        for start in range(0, max(len(pixels), 1), BATCH_PIXELS):
            part = slice(start, start + BATCH_PIXELS)
            parts = [read(pixels[part]) for read in readers]
            if bias is None:
                yield part, self._standardize(np.concatenate(parts, 1))
            else:
                yield part, sum(parts[1:], start=parts[0] + bias)

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Standardise and project vectors (n, C) of :attr:`raw`: (n, D) float32, what :meth:`transform` gives."""
        raw = np.asarray(raw, np.float32)
        self._prepare(raw.shape[1])
        vectors = self._standardize(raw.copy())
        return vectors if self.weight_ is None else vectors @ self.weight_.T + self.bias_

    def transform_grid(self, prediction: Prediction) -> np.ndarray:
        """Vectors at the centres of the cells of the finest map (stride 4): (h, w, D) float32."""
        grid = prediction.logits.shape[1:]
        return self.transform(prediction, grid_pixels(grid, prediction.size)).reshape(*grid, -1)

    def save(self, path: str | Path) -> Path:
        """Write parameters and fitted arrays as safetensors."""
        arrays = {k: getattr(self, k) for k in ("mean_", "scale_", "weight_", "bias_") if getattr(self, k) is not None}
        arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items()} or {"none": np.zeros(1, np.float32)}
        metadata = {"kind": "PixelEmbedder", "parameters": json.dumps(self.parameters)}
        return write_atomically(path, lambda temporary: save_file(arrays, temporary, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> PixelEmbedder:
        """Read what :meth:`save` wrote.

        Raises
        ------
        EmbeddingError
            If the file is missing, damaged or of another kind.
        """
        try:
            with safe_open(str(path), "numpy") as stream:
                metadata = stream.metadata() or {}
                arrays = {key: stream.get_tensor(key) for key in stream.keys() if key != "none"}  # noqa: SIM118
            parameters = json.loads(metadata["parameters"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise EmbeddingError(f"The file {path} is not a saved PixelEmbedder ({error}); make it anew.") from error
        levels, projection = parameters.pop("levels"), parameters.pop("projection")
        embedder = cls(levels, projection, **parameters)
        for key, value in arrays.items():
            setattr(embedder, key, value)
        return embedder

    def _maps(self, prediction: Prediction) -> list[np.ndarray]:
        maps = [getattr(prediction, v) if isinstance(v, str) else prediction.features[v] for v in self.levels]
        for level, m in zip(self.levels, maps, strict=True):
            if not np.isfinite(m).all():
                raise EmbeddingError(
                    f"The features of level {level} hold NaN or infinite values; check image and checkpoint."
                )
        return maps

    def _prepare(self, channels: int) -> None:
        if self.projection == "random" and self.weight_ is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                layer = torch.nn.Conv2d(channels, self.dim, 1)
            self.weight_ = layer.weight.detach().numpy().reshape(self.dim, channels)
            self.bias_ = layer.bias.detach().numpy()
        fitted = {"standardize": self.mean_ is not None, "pca": self.weight_ is not None}
        if (self.standardize and not fitted["standardize"]) or (self.projection == "pca" and not fitted["pca"]):
            raise EmbeddingError("This embedder has still to learn from a sample; call fit with raw vectors first.")

    def _standardize(self, vectors: np.ndarray) -> np.ndarray:
        """In place."""
        if self.standardize:
            vectors -= self.mean_
            vectors /= self.scale_
        return vectors


def _reader(
    feature: np.ndarray, weight: torch.Tensor | None, wanted: int, size: tuple[int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Function that gives the values of a map at pixels, projected if there is a weight (D, C).

    Both orders are exact. Maps with fewer cells than there are pixels wanted are projected first.
    """
    rows, shape = _as_rows(feature), feature.shape[1:]
    if weight is None:
        return lambda pixels: _weighted(rows, *_neighbours(shape, pixels, size))
    if len(rows) < wanted:
        projected = rows @ weight.T
        return lambda pixels: _weighted(projected, *_neighbours(shape, pixels, size))
    return lambda pixels: _weighted(rows, *_neighbours(shape, pixels, size)) @ weight.T.numpy()
