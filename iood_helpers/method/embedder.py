"""From pixels to vectors: read the feature pyramid at single pixels, project, standardise.

A 1x1 convolution and bilinear enlarging are linear and act on different axes, so they commute: features are sampled
where they are needed and projected afterwards (or before, whichever costs less). No full-resolution feature map is
built, and the numbers are those of enlarging, concatenating and convolving.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from ..checks import MAX_SEED, finite, vectors, whole
from ..errors import EmbeddingError
from .fitted import load_fitted, save_fitted
from .levels import ALL_LEVELS, Level, checked_levels, level_map

if TYPE_CHECKING:
    from ..model.segmenter import Prediction

PUBLISHED_DIM = 1536
FITTED = ("mean_", "scale_", "weight_", "bias_")
BATCH_PIXELS = 16_384
MAX_DIM = 65_536
DEFAULT_DIM = {"random": PUBLISHED_DIM, "pca": 64}

__all__ = ["ALL_LEVELS", "Level", "PixelEmbedder", "grid_pixels", "sample_bilinear"]


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

    Raises
    ------
    EmbeddingError
        If pixels lie outside the image.
    """
    feature = np.asarray(feature, np.float32)
    return _weighted(_as_rows(feature), *_neighbors(feature.shape[1:], _inside(pixels, size), size))


def _inside(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``pixels`` as (n, 2) numbers that lie in the image."""
    pixels = np.asarray(pixels)
    if not pixels.size:
        return np.empty((0, 2))
    if pixels.ndim != 2 or pixels.shape[1] != 2 or pixels.dtype.kind not in "fiu":
        raise EmbeddingError(f"Pixels are (n, 2) rows and columns, not {pixels.shape} of type {pixels.dtype}.")
    # written so that NaN counts as outside
    if not ((pixels >= -0.5) & (pixels <= np.array(size) - 0.5)).all():
        raise EmbeddingError(f"Some pixels lie outside the image of {size[0]} x {size[1]} pixels.")
    return pixels


def _as_rows(feature: np.ndarray) -> torch.Tensor:
    """(C, h, w) as (h * w, C) with the numbers of a cell side by side."""
    return torch.from_numpy(np.ascontiguousarray(feature)).flatten(1).T.contiguous()


def _neighbors(shape: tuple[int, int], pixels: np.ndarray, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
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
        Feature maps by number (0 is the finest) or stride ("stride8"), "decoder" (what the classifier sees) and
        "logits" (what it says), concatenated. A network may offer any number of maps: where it lacks one that is
        asked for, :meth:`transform` says what it has.
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
        If a level or projection is none, a level is there twice, or ``dim`` or ``seed`` is no possible number.
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
        self.levels = checked_levels(levels)
        if projection not in (None, "random", "pca"):
            raise EmbeddingError(f"Unknown projection {projection!r}; use None, 'random' or 'pca'.")
        if dim is not None and projection is None:
            raise EmbeddingError(f"Vectors get {dim} numbers by a projection only; set projection, or leave dim out.")
        if not isinstance(standardize, bool | np.bool_):
            raise EmbeddingError(f"standardize is True or False, not {standardize!r}.")
        self.projection = projection
        self.dim = whole("dim", dim, 1, MAX_DIM, EmbeddingError) if dim is not None else DEFAULT_DIM.get(projection)
        self.standardize = bool(standardize)
        self.seed = whole("seed", seed, 0, MAX_SEED, EmbeddingError)
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
            If there are no vectors, NaNs, or fewer vectors than PCA components.
        """
        raw = finite(vectors(raw, EmbeddingError), EmbeddingError)
        if not len(raw):
            raise EmbeddingError("There are no vectors to learn from; check that the training images have labels.")
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
        other.seed = whole("seed", seed, 0, MAX_SEED, EmbeddingError)
        other.weight_, other.bias_ = None, None
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
            If the prediction lacks a level, features hold NaN, pixels lie outside the image, or :meth:`fit` is still
            to be called.
        """
        pixels = _inside(pixels, prediction.shape)
        out = None
        for part, batch in self.batches(prediction, pixels):
            if out is None:
                out = np.empty((len(pixels), batch.shape[1]), np.float32)
            out[part] = batch
        return out

    def batches(self, prediction: Prediction, pixels: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """What :meth:`transform` gives, some thousand pixels at a time: (which of them, their vectors)."""
        size = prediction.shape
        pixels = _inside(pixels, size)
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
        """Standardise and project vectors (n, C) of :attr:`raw`: (n, D) float32, what :meth:`transform` gives.

        Raises
        ------
        EmbeddingError
            If vectors hold NaN, have another length than :meth:`fit` saw, or :meth:`fit` is still to be called.
        """
        raw = finite(vectors(raw, EmbeddingError), EmbeddingError)
        self._prepare(raw.shape[1])
        standard = self._standardize(raw.copy())
        return standard if self.weight_ is None else standard @ self.weight_.T + self.bias_

    def transform_grid(self, prediction: Prediction) -> np.ndarray:
        """Vectors at the centres of the cells of the logits, whatever their stride: (h, w, D) float32."""
        grid = prediction.logits.shape[1:]
        return self.transform(prediction, grid_pixels(grid, prediction.shape)).reshape(*grid, -1)

    def save(self, path: str | Path) -> Path:
        """Write parameters and fitted arrays as safetensors."""
        arrays = {name: getattr(self, name) for name in FITTED if getattr(self, name) is not None}
        # a file without arrays is none
        return save_fitted(
            path, "PixelEmbedder", arrays or {"none": np.zeros(1, np.float32)}, parameters=self.parameters
        )

    @classmethod
    def load(cls, path: str | Path) -> PixelEmbedder:
        """Read what :meth:`save` wrote.

        Raises
        ------
        EmbeddingError
            If the file is missing, damaged or of another kind, or its arrays do not fit its parameters.
        """
        try:
            arrays, values = load_fitted(path, "PixelEmbedder", ("parameters",))
            parameters = values["parameters"]
            if not isinstance(parameters, dict) or sorted(parameters) != sorted(cls((0,)).parameters):
                raise ValueError("its parameters are not those of an embedder")
            embedder = cls(parameters.pop("levels"), parameters.pop("projection"), **parameters)
            arrays.pop("none", None)
            embedder._take(arrays)
        except (ValueError, EmbeddingError) as error:
            raise EmbeddingError(f"The file {path} is not a saved PixelEmbedder ({error}); make it anew.") from error
        return embedder

    def _take(self, arrays: dict[str, np.ndarray]) -> None:
        """Arrays of a file, if they fit the parameters and each other; otherwise ValueError."""
        mean, weight = arrays.get("mean_"), arrays.get("weight_")
        channels = [len(mean)] if mean is not None and mean.ndim == 1 else []
        channels += [weight.shape[1]] if weight is not None and weight.ndim == 2 else []
        channels = channels[0] if channels else None
        shapes = {"mean_": (channels,), "scale_": (channels,), "weight_": (self.dim, channels), "bias_": (self.dim,)}
        wanted = {"mean_", "scale_"} if self.standardize else set()
        wanted |= {"weight_", "bias_"} if self.projection else set()
        for name, array in arrays.items():
            if name not in wanted:
                raise ValueError(f"its parameters ask for no array {name!r}")
            if array.shape != shapes[name] or not array.size or array.dtype.kind != "f":
                raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}")
            # written so that NaN fails; beyond these, vectors of ordinary features would be infinite
            if not (np.abs(array) <= 1e12).all() or (name == "scale_" and array.min() < 1e-12):
                raise ValueError(f"{name} holds impossible values")
            setattr(self, name, array.astype(np.float32))
        if (self.mean_ is None) != (self.scale_ is None) or (self.weight_ is None) != (self.bias_ is None):
            raise ValueError("an array is missing")

    def _maps(self, prediction: Prediction) -> list[np.ndarray]:
        maps = []
        for level in self.levels:
            with np.errstate(over="ignore"):  # what overflows is found below
                # networks in half precision give half-precision maps
                maps.append(np.asarray(level_map(prediction, level), np.float32))
            if not np.isfinite(maps[-1]).all():
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
        known = len(self.mean_) if self.mean_ is not None else channels
        known = known if self.weight_ is None else self.weight_.shape[1]
        if known != channels:
            raise EmbeddingError(
                f"This embedder knows vectors of {known} numbers, not {channels}; fit it anew for this network."
            )

    def _standardize(self, raw: np.ndarray) -> np.ndarray:
        """In place."""
        if self.standardize:
            raw -= self.mean_
            raw /= self.scale_
        return raw


def _reader(
    feature: np.ndarray, weight: torch.Tensor | None, wanted: int, size: tuple[int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Function that gives the values of a map at pixels, projected if there is a weight (D, C).

    Both orders are exact. Maps with fewer cells than there are pixels wanted are projected first.
    """
    rows, shape = _as_rows(feature), feature.shape[1:]
    if weight is None:
        return lambda pixels: _weighted(rows, *_neighbors(shape, pixels, size))
    if len(rows) < wanted:
        projected = rows @ weight.T
        return lambda pixels: _weighted(projected, *_neighbors(shape, pixels, size))
    return lambda pixels: _weighted(rows, *_neighbors(shape, pixels, size)) @ weight.T.numpy()
