"""From pixels to vectors: read the feature pyramid at single pixels, project, standardise.

A 1x1 convolution and bilinear upsampling are linear and act on different axes, so they commute: features are sampled
where they are needed and projected afterwards (or before, whichever costs less). No full-resolution feature map is
built, and the numbers are those of upsampling, concatenating and convolving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from ..checks import MAX_SEED, finite, vectors, whole
from ..errors import EmbeddingError
from ..renamed import warn
from .fitted import load_fitted, save_fitted
from .levels import ALL_LEVELS as ALL_LEVELS
from .levels import Level, checked_levels, level_map

if TYPE_CHECKING:
    from ..model.segmenter import Prediction

FITTED = ("mean_", "scale_", "weight_", "bias_")
BATCH_PIXELS = 16_384
MAX_DIM = 65_536
DEFAULT_DIM = {"random": 1536, "pca": 64}


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


def grid_pixels(grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Centres of the cells of a grid over an image, as (n, 2) float64 rows and columns of the image, row by row."""
    rows, columns = ((np.arange(g) + 0.5) * s / g - 0.5 for g, s in zip(grid, size, strict=True))
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


class PixelEmbedder:
    """Feature vectors of single pixels.

    Nothing but :meth:`fit` changes an embedder. A random projection needs no fit: :func:`random_projection` gives the
    same weights for the same seed and features whenever they are needed. Fitting keeps them, so that :meth:`save`
    writes them.

    Parameters
    ----------
    levels : sequence of int or str, default=(0, 1, 2, 3)
        Feature maps by number (0 is the finest) or stride ("stride8"), "decoder" (what the classifier sees) and
        "logits", concatenated. A network may offer any number of maps: :meth:`transform` says which if one is missing.
    projection : {"random", "pca"}, optional
        "random": :func:`random_projection`, as the published code uses it; "pca": fitted by :meth:`fit`.
    dim : int, optional
        Length of projected vectors, 1..65536; default 1536 for "random" (published) and 64 for "pca".
    standardize : bool, default=False
        Whether each channel is centred and scaled with the statistics learned by :meth:`fit`.
    seed : int, default=0
        Seed of the projection, 0..2**32 - 1.

    Attributes
    ----------
    mean_, scale_ : numpy.ndarray or None
        Statistics of the C channels, (C,) float32; None before :meth:`fit` and without ``standardize``.
    weight_, bias_ : numpy.ndarray or None
        Projection, (dim, C) and (dim,) float32; None before :meth:`fit` and without ``projection``.

    Raises
    ------
    EmbeddingError
        If a level or projection is unknown, a level is there twice, or ``dim`` or ``seed`` is no possible number.
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
        dim = DEFAULT_DIM[projection] if projection and dim is None else dim
        self.dim = None if dim is None else whole("dim", dim, 1, MAX_DIM, EmbeddingError)
        self.standardize = bool(standardize)
        self.seed = whole("seed", seed, 0, MAX_SEED, EmbeddingError)
        self.mean_: np.ndarray | None = None
        self.scale_: np.ndarray | None = None
        self.weight_: np.ndarray | None = None
        self.bias_: np.ndarray | None = None

    @property
    def parameters(self) -> dict:
        """Constructor arguments as plain values."""
        names = ("projection", "dim", "standardize", "seed")
        return {"levels": list(self.levels), **{name: getattr(self, name) for name in names}}

    @property
    def raw(self) -> PixelEmbedder:
        """Embedder of the same features without standardisation and projection; :meth:`apply` adds both."""
        return PixelEmbedder(self.levels)

    def widths(self, prediction: Prediction) -> dict[Level | str, int]:
        """Numbers per vector of each level, in order; with a projection, which mixes them, ``{"projected": dim}``."""
        if self.dim is not None:
            return {"projected": self.dim}
        return dict(zip(self.levels, map(len, self._maps(prediction)), strict=True))

    def fit(self, raw: np.ndarray) -> PixelEmbedder:
        """Learn standardisation and PCA, and keep the weights of a random projection.

        Parameters
        ----------
        raw : numpy.ndarray
            (n, C) vectors of :attr:`raw`.

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
        elif self.dim is not None:
            self.weight_, self.bias_ = random_projection(raw.shape[1], self.dim, self.seed)
        return self

    def reinitialised(self, seed: int) -> PixelEmbedder:
        """Old name of :func:`~iood_helpers.method.published.with_fresh_projection`."""
        from .published import with_fresh_projection

        warn("PixelEmbedder.reinitialised", "iood_helpers.method.published.with_fresh_projection")
        return with_fresh_projection(self, seed)

    def transform(self, prediction: Prediction, pixels: np.ndarray) -> np.ndarray:
        """Vectors of pixels.

        Parameters
        ----------
        prediction : Prediction
            Output of the segmenter for one image.
        pixels : numpy.ndarray
            (n, 2) rows and columns in the image; integers are pixel centres, fractions are allowed.

        Returns
        -------
        numpy.ndarray
            (n, D) float32: the upsampled features at these pixels, standardised and projected.

        Raises
        ------
        EmbeddingError
            If the prediction lacks a level, features hold NaN, pixels lie outside the image, or :meth:`fit` is still
            to be called.
        """
        out = np.empty((0, 0), np.float32)
        for part, batch in self.batches(prediction, pixels):
            if part.start == 0:
                out = np.empty((len(pixels), batch.shape[1]), np.float32)
            out[part] = batch
        return out

    def batches(self, prediction: Prediction, pixels: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """What :meth:`transform` gives, a batch of pixels at a time: (which of them, their vectors)."""
        size = prediction.shape
        pixels = _inside(pixels, size)
        maps = self._maps(prediction)
        ends = np.cumsum([len(m) for m in maps])
        weights: Sequence[np.ndarray | None] = [None] * len(maps)
        projection = self._projection(ends[-1])
        if projection is not None:
            weight, bias = projection
            if self.standardize:
                weight = weight / self.scale_
                bias = bias - weight @ self.mean_
            weights = np.split(weight, ends[:-1], axis=1)
        readers = [_reader(m, weight, len(pixels), size) for m, weight in zip(maps, weights, strict=True)]
        for start in range(0, max(len(pixels), 1), BATCH_PIXELS):
            part = slice(start, start + BATCH_PIXELS)
            parts = [read(pixels[part]) for read in readers]
            if projection is None:
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
        projection = self._projection(raw.shape[1])
        standard = self._standardize(raw.copy())
        return standard if projection is None else standard @ projection[0].T + projection[1]

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
            embedder = cls(**parameters)
            arrays.pop("none", None)
            embedder._take(arrays)
        except (ValueError, EmbeddingError) as error:
            raise EmbeddingError(f"The file {path} is not a saved PixelEmbedder ({error}); make it anew.") from error
        return embedder

    def _take(self, arrays: dict[str, np.ndarray]) -> None:
        """Arrays of a file, if they fit the parameters and each other; otherwise ValueError."""
        first = arrays.get("mean_", arrays.get("weight_"))
        channels = first.shape[-1] if first is not None and first.ndim else None
        shapes = {"mean_": (channels,), "scale_": (channels,), "weight_": (self.dim, channels), "bias_": (self.dim,)}
        wanted = {"mean_", "scale_"} if self.standardize else set()
        wanted |= {"weight_", "bias_"} if self.projection else set()
        for name, array in arrays.items():
            if name not in wanted:
                raise ValueError(f"its parameters ask for no array {name!r}")
            if array.shape != shapes[name] or not array.size or array.dtype.kind != "f":
                raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}")
            # written so that NaN fails; beyond these, vectors could be infinite
            if not (np.abs(array) <= 1e12).all() or (name == "scale_" and array.min() < 1e-12):
                raise ValueError(f"{name} holds impossible values")
            setattr(self, name, array.astype(np.float32))
        if any((one in arrays) != (other in arrays) for one, other in (("mean_", "scale_"), ("weight_", "bias_"))):
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

    def _projection(self, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Weight and bias for vectors of C numbers, None without projection; EmbeddingError if they fit no fit."""
        if (self.standardize and self.mean_ is None) or (self.projection == "pca" and self.weight_ is None):
            raise EmbeddingError("This embedder has still to learn from a sample; call fit with raw vectors first.")
        fitted = self.mean_ if self.weight_ is None else self.weight_
        if fitted is not None and fitted.shape[-1] != channels:
            raise EmbeddingError(
                f"This embedder knows vectors of {fitted.shape[-1]} numbers, not {channels}; fit it for this network."
            )
        if self.weight_ is not None and self.bias_ is not None:
            return self.weight_, self.bias_
        return None if self.dim is None else random_projection(channels, self.dim, self.seed)

    def _standardize(self, raw: np.ndarray) -> np.ndarray:
        """In place."""
        if self.standardize:
            raw -= self.mean_
            raw /= self.scale_
        return raw


def random_projection(channels: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight (dim, channels) and bias (dim,), float32, of a 1x1 convolution as PyTorch initialises it.

    Drawn anew at each call; the state of PyTorch's generator stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weight, bias = torch.nn.Conv2d(channels, dim, 1).parameters()
    return weight.detach().flatten(1).numpy(), bias.detach().numpy()


def _reader(
    feature: np.ndarray, weight: np.ndarray | None, wanted: int, size: tuple[int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Function that gives the upsampled values of a map at pixels, projected if there is a weight (D, C).

    Both orders are exact. Maps with fewer cells than there are pixels wanted are projected first.
    """
    # the numbers of a cell side by side: (h * w, C)
    rows = torch.from_numpy(np.ascontiguousarray(feature)).flatten(1).T.contiguous()
    if weight is not None and len(rows) < wanted:
        rows, weight = rows @ torch.from_numpy(weight.T), None

    def read(pixels: np.ndarray) -> np.ndarray:
        cells, shares = _neighbors(feature.shape[1:], pixels, size)
        # a weighted sum of rows; this function, meant for words, does it without copies
        values = F.embedding_bag(cells, rows, mode="sum", per_sample_weights=shares).numpy()
        return values if weight is None else values @ weight.T

    return read
