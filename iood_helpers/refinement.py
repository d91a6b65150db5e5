"""The decision: lower the confidence of pixels that lie far from what is normal.

Three modes: the published rule of InternImage-OOD, step by step; a calibrated one that every subset can bear; and the
calibrated one fused with what the network says of neighbouring pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from .calibration import Recalibration, log_odds
from .classes import NUM_CLASSES
from .clustering import ClassKMeans
from .embeddings import PixelEmbedder, grid_pixels
from .errors import RefinementError

if TYPE_CHECKING:
    from .segmenter import Prediction


def refine_confidence(
    prediction: Prediction,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    mode: Literal["calibrated", "fused", "published"] = "calibrated",
    **options,
) -> tuple[np.ndarray, np.ndarray]:
    """Refine the confidence map of one image.

    Parameters
    ----------
    prediction
        Output of the segmenter.
    kmeans
        Fitted centres; calibrated ones for modes "calibrated" and "fused".
    embedder
        The one whose vectors ``kmeans`` was fitted on.
    mode
        "calibrated", "fused" or "published".
    **options
        Keywords of :func:`refine_calibrated`, :func:`refine_fused` or :func:`refine_published`.

    Returns
    -------
    confidence, ood_mask
        (H, W) float32 in 0..1, and (H, W) bool.

    Raises
    ------
    RefinementError
        If mode or an option is unknown, the model is not calibrated, or vectors and centres differ in length.
    """
    modes = {"calibrated": refine_calibrated, "fused": refine_fused, "published": refine_published}
    if mode not in modes:
        raise RefinementError(f"Unknown mode {mode!r}; use 'calibrated', 'fused' or 'published'.")
    known = modes[mode].__kwdefaults__ or {}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise RefinementError(f"Mode {mode!r} has no option {unknown[0]!r}; it has {', '.join(known)}.")
    return modes[mode](prediction, kmeans, embedder, **options)


def refine_published(
    prediction: Prediction,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    *,
    gate: float = 0.5,
    factor: float = 1.1,
    replacement: float = 0.0001,
    fresh_projection_seed: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The rule of the challenge entry.

    Among pixels with confidence below ``gate``, one of predicted class k is out of distribution if its distance to the
    nearest centre of k exceeds ``factor`` times the mean distance of all such pixels to all centres of k. Its
    confidence becomes ``replacement``.

    Parameters
    ----------
    prediction, kmeans, embedder
        As in :func:`refine_confidence`.
    gate, factor, replacement
        Constants of the rule.
    fresh_projection_seed
        If set, pixels are projected by a newly initialised projection instead of the one of the fit: the first flaw of
        the published code (``ClassKMeans(refit_per_image=True)`` is another).
    """
    if fresh_projection_seed is not None:
        embedder = embedder.reinitialised(fresh_projection_seed)
    mask = np.zeros(prediction.size, bool)
    pixels = np.argwhere(prediction.confidence < gate)
    classes = prediction.classes[pixels[:, 0], pixels[:, 1]]
    known = np.isin(classes, list(kmeans.centers_))
    pixels, classes = pixels[known], classes[known]
    nearest, total = np.empty(len(pixels), np.float32), np.zeros(NUM_CLASSES)
    if len(pixels):
        for part, vectors in embedder.batches(prediction, pixels):
            _check_length(kmeans, vectors)
            for c in np.unique(classes[part]):
                of_class = classes[part] == c
                distance = kmeans.distances(vectors[of_class], int(c))
                nearest[part][of_class] = distance.min(1)
                total[c] += distance.sum(dtype=np.float64)
    for c in np.unique(classes):
        of_class = classes == c
        mean = total[c] / (of_class.sum() * len(kmeans.centers_[int(c)]))
        far = pixels[of_class][nearest[of_class] > factor * mean]
        mask[far[:, 0], far[:, 1]] = True
    confidence = prediction.confidence.copy()
    confidence[mask] = replacement
    return confidence, mask


def refine_calibrated(
    prediction: Prediction,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    *,
    strength: float = 2.5,
    width: float = 0.1,
    quantile: float = 0.85,
    smooth: float = 4.0,
    alpha: float = 0.01,
    recalibration: Recalibration | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel pays for its distance, in odds; no gate, no constant.

    ``log-odds' = log-odds - strength * tanh(max(d - 1, 0) / width)`` with d of :func:`novelty_map`. Distance is
    evidence against the class that the network gives, and evidence multiplies odds. It is bounded: where a whole image
    is unusual (night, rain), every pixel pays the same and the network's own ranking stays.

    Parameters
    ----------
    prediction, kmeans, embedder
        As in :func:`refine_confidence`.
    strength
        Largest penalty, in units of log-odds: 2.5 divides the odds of being right by 12.
    width
        Excess distance at which three quarters of it are due.
    quantile, smooth
        As in :func:`novelty_map`.
    alpha
        The mask holds pixels with a tail probability below this: the false-alarm rate on ordinary pixels.
    recalibration
        Fitted on refined confidences of held-out ordinary pixels; makes them honest probabilities again.
    """
    odds = log_odds(prediction.confidence)
    return _charge(prediction, kmeans, embedder, odds, strength, width, quantile, smooth, alpha, recalibration)


def refine_fused(
    prediction: Prediction,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    *,
    strength: float = 1.75,
    neighbours: float = 0.35,
    reach: float = 1.5,
    width: float = 0.1,
    quantile: float = 0.85,
    smooth: float = 4.0,
    alpha: float = 0.01,
    recalibration: Recalibration | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The calibrated rule, and the log-odds averaged over neighbours first.

    What the network doubts in one pixel it mostly doubts in the next one too, and its doubts and the distances miss
    different pixels. So the distance need not be charged as dearly, and ordinary scenes pay less.

    Parameters
    ----------
    prediction, kmeans, embedder
        As in :func:`refine_confidence`.
    neighbours
        Share of the averaged log-odds, 0..1; the rest is the pixel's own.
    reach
        Standard deviation of the Gaussian that averages log-odds, in cells of the stride-4 grid.
    strength, width, quantile, smooth, alpha, recalibration
        As in :func:`refine_calibrated`.
    """
    own = log_odds(prediction.confidence)
    cell = prediction.size[0] / prediction.logits.shape[1]
    odds = (1 - neighbours) * own + neighbours * gaussian_filter(own, reach * cell, mode="nearest")
    return _charge(prediction, kmeans, embedder, odds, strength, width, quantile, smooth, alpha, recalibration)


def _charge(
    prediction, kmeans, embedder, odds, strength, width, quantile, smooth, alpha, recalibration
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence after the bounded penalty on log-odds (H, W), and the mask of far pixels."""
    scaled, classes = _scaled_grid(prediction, kmeans, embedder)
    excess = np.maximum(_novelty(prediction, kmeans, scaled, classes, quantile, smooth) - 1, 0)
    confidence = (1 / (1 + np.exp(strength * np.tanh(excess / width) - odds))).astype(np.float32)
    if recalibration is not None:
        confidence = recalibration(confidence)
    tail = kmeans.tail_probability(scaled.ravel(), classes.ravel()).reshape(classes.shape)
    return confidence, enlarge(tail < alpha, prediction.size) > 0.5


def novelty_map(
    prediction: Prediction,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    *,
    quantile: float = 0.85,
    smooth: float = 4.0,
) -> np.ndarray:
    """How far each pixel lies from what is normal for its predicted class.

    Parameters
    ----------
    prediction, kmeans, embedder
        As in :func:`refine_confidence`.
    quantile
        Share of ordinary pixels whose distance counts as 1 or less.
    smooth
        Standard deviation of the Gaussian that averages neighbours, in cells of the stride-4 grid; 0 for none.

    Returns
    -------
    numpy.ndarray
        (H, W) float32, 0 and up; above 1 is farther than the given share of ordinary pixels.
    """
    scaled, classes = _scaled_grid(prediction, kmeans, embedder)
    return _novelty(prediction, kmeans, scaled, classes, quantile, smooth)


def _scaled_grid(prediction, kmeans, embedder) -> tuple[np.ndarray, np.ndarray]:
    """Scaled distance and class of each stride-4 cell."""
    if not getattr(kmeans, "quantiles_", None):
        raise RefinementError("The clusters are not calibrated; call ClassKMeans.calibrate with held-out pixels first.")
    classes = prediction.logits.argmax(0)
    scaled = np.empty(classes.size, np.float32)
    for part, vectors in embedder.batches(prediction, grid_pixels(classes.shape, prediction.size)):
        _check_length(kmeans, vectors)
        scaled[part] = kmeans.scaled_distance(vectors, classes.ravel()[part])
    return scaled.reshape(classes.shape), classes


def _novelty(prediction, kmeans, scaled, classes, quantile, smooth) -> np.ndarray:
    usual = kmeans.held_out_quantile(classes.ravel(), quantile).reshape(classes.shape)
    relative = scaled / np.maximum(usual, 1e-6)
    return enlarge(gaussian_filter(relative, smooth, mode="nearest") if smooth > 0 else relative, prediction.size)


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Map (h, w) at the size (H, W) of the image, bilinear, float32."""
    grid = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    return F.interpolate(grid, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _check_length(kmeans: ClassKMeans, vectors: np.ndarray) -> None:
    if vectors.shape[1] != kmeans.n_features_in_:
        raise RefinementError(
            f"The vectors have {vectors.shape[1]} numbers, but the clusters were fitted on {kmeans.n_features_in_}; "
            "use the embedder of the fit."
        )
