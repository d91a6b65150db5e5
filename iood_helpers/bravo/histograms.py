"""Ranking and calibration metrics from histograms of scores: pure functions on counts.

Every function takes counts per score level on the last axis, level 0 the lowest score, and any leading axes:
one call serves a single histogram or a thousand resampled ones. Pixels of one level are tied and enter
together. A metric that is not defined (no positive, or no negative pixel) is NaN.

The definitions are those of the BRAVO challenge's evaluation toolkit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..checks import LEVELS

ECE_BINS = 15


def _cumulative(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of true and false positives when the threshold falls from the highest level to the lowest."""
    return (
        np.cumsum(np.asarray(positive)[..., ::-1], axis=-1, dtype=np.float64),
        np.cumsum(np.asarray(negative)[..., ::-1], axis=-1, dtype=np.float64),
    )


def _rates(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true, false = _cumulative(positive, negative)
    with np.errstate(invalid="ignore"):
        return true / true[..., -1:], false / false[..., -1:]


def auroc(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Area under the ROC curve by the trapezoid rule, from (0, 0).

    Parameters
    ----------
    positive, negative : array of counts, shape (..., levels)
        How many positive and negative pixels have each score level.

    Returns
    -------
    ndarray of float, shape (...)
        0..1; 0.5 is chance.

    Examples
    --------
    >>> float(auroc([0, 1, 3], [2, 1, 1]))
    0.8125
    """
    tpr, fpr = _rates(positive, negative)
    first = tpr[..., 0] * fpr[..., 0]
    steps = (fpr[..., 1:] - fpr[..., :-1]) * (tpr[..., 1:] + tpr[..., :-1])
    return 0.5 * (first + steps.sum(axis=-1))


def average_precision(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve: sum of (increase of recall) x precision, not interpolated.

    Parameters and return as for ``auroc``; chance is the share of positives.

    Examples
    --------
    >>> float(average_precision([0, 0, 2], [1, 1, 0]))
    1.0
    """
    true, false = _cumulative(positive, negative)
    predicted = true + false
    precision = np.divide(true, predicted, out=np.ones_like(true), where=predicted > 0)
    gained = np.asarray(positive, dtype=np.float64)[..., ::-1]
    # without negatives the sum is 1 whatever the scores are: NaN, as for the other metrics
    positives = np.where(false[..., -1] > 0, true[..., -1], np.nan)
    with np.errstate(invalid="ignore"):
        return (gained * precision).sum(axis=-1) / positives


def fpr_at_tpr(positive: np.ndarray, negative: np.ndarray, tpr: float = 0.95) -> np.ndarray:
    """False positive rate at the first threshold, from above, whose true positive rate reaches ``tpr``.

    Parameters and return as for ``auroc``; lower is better.

    Examples
    --------
    >>> float(fpr_at_tpr([0, 1, 3], [2, 1, 1], tpr=0.75))
    0.25
    """
    rates, false = _rates(positive, negative)
    first = np.argmax(rates >= tpr, axis=-1)
    value = np.take_along_axis(false, first[..., None], axis=-1)[..., 0]
    return np.where(np.isnan(rates[..., -1]), np.nan, value)


def bin_edges(levels: int = LEVELS, bins: int = ECE_BINS) -> np.ndarray:
    """First level of each confidence bin, and the number of levels as last element; shape (bins + 1,)."""
    return np.round(np.arange(bins + 1) * levels / bins).astype(np.int64)


class BinSums(NamedTuple):
    """Sums per confidence bin: pixels, correct pixels, confidence; each of shape (..., bins)."""

    pixels: np.ndarray
    correct: np.ndarray
    confidence: np.ndarray


def bin_sums(correct: np.ndarray, wrong: np.ndarray, bins: int = ECE_BINS) -> BinSums:
    """Sum counts and confidences in bins of equal width; level l stands for confidence (l + 0.5) / levels.

    Parameters
    ----------
    correct, wrong : array of counts, shape (..., levels)
        How many pixels with a right and a wrong prediction have each confidence level.
    bins : int
        Number of bins.

    Returns
    -------
    BinSums
    """
    correct = np.asarray(correct, dtype=np.float64)
    pixels = correct + np.asarray(wrong, dtype=np.float64)
    levels = pixels.shape[-1]
    starts = bin_edges(levels, bins)[:-1]
    confidence = (np.arange(levels) + 0.5) / levels
    return BinSums(
        np.add.reduceat(pixels, starts, axis=-1),
        np.add.reduceat(correct, starts, axis=-1),
        np.add.reduceat(pixels * confidence, starts, axis=-1),
    )


def calibration_error(sums: BinSums) -> np.ndarray:
    """Expected calibration error: sum over bins of (share of pixels) x ``abs(accuracy - mean confidence)``.

    Parameters
    ----------
    sums : BinSums
        As ``bin_sums`` gives them.

    Returns
    -------
    ndarray of float, shape (...)
        0..1; NaN without pixels.
    """
    # share x |accuracy - confidence| is |correct - confidence| / all pixels: empty bins need no care
    total = sums.pixels.sum(axis=-1)
    gap = np.abs(sums.correct - sums.confidence).sum(axis=-1)
    return np.divide(gap, total, out=np.full_like(total, np.nan), where=total > 0)


def semantic_ranking(correct: np.ndarray, wrong: np.ndarray) -> dict[str, np.ndarray]:
    """How confidence ranks correct above wrong pixels: counts per level, shape (..., levels)."""
    return {
        "auroc_valid": auroc(correct, wrong),
        "auprc_success_valid": average_precision(correct, wrong),
        "auprc_error_valid": average_precision(wrong[..., ::-1], correct[..., ::-1]),
        "fpr95_valid": fpr_at_tpr(correct, wrong),
    }


def ood_ranking(invalid: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """How low confidence ranks invalid above valid pixels: counts per level, (..., levels)."""
    scores = invalid[..., ::-1], valid[..., ::-1]
    return {
        "auroc_ood": auroc(*scores),
        "auprc_ood": average_precision(*scores),
        "fpr95_ood": fpr_at_tpr(*scores),
    }


def roc_points(positive: np.ndarray, negative: np.ndarray, points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Points of one ROC curve for plotting, thinned to at most ``points``.

    Parameters
    ----------
    positive, negative : array of counts, shape (levels,)
        As for ``auroc``, of one histogram.
    points : int
        The most points to return.

    Returns
    -------
    (fpr, tpr) : two arrays of float, shape (n,)
        From (0, 0) to (1, 1); points are kept at about even distances along the curve.
    """
    tpr, fpr = _rates(positive, negative)
    tpr, fpr = np.append(0.0, tpr), np.append(0.0, fpr)
    keep = _thin(fpr + tpr, points)
    return fpr[keep], tpr[keep]


def precision_recall_points(
    positive: np.ndarray, negative: np.ndarray, points: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Points of one precision-recall curve for plotting, thinned to at most ``points``.

    Parameters as for ``roc_points``.

    Returns
    -------
    (recall, precision) : two arrays of float, shape (n,)
        From recall 0 to 1; points are kept at about even distances of recall.
    """
    true, false = _cumulative(positive, negative)
    some = true + false > 0
    true, false = true[some], false[some]
    recall, precision = true / true[-1], true / (true + false)
    # the most confident level is a step from recall 0, and may be a large one where scores are tied
    recall, precision = np.append(0.0, recall), np.append(precision[0], precision)
    keep = _thin(recall, points)
    return recall[keep], precision[keep]


def _thin(position: np.ndarray, points: int) -> np.ndarray:
    """Indices of at most ``points`` points, about evenly spaced in the rising ``position``."""
    targets = np.linspace(position[0], position[-1], points)
    return np.unique(np.searchsorted(position, targets).clip(max=len(position) - 1))
