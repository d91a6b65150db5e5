"""How much metrics depend on which images are in the test set: bootstrap over images, and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, studentized_range

from ..errors import MetricsError
from . import histograms
from .accumulator import BravoAccumulator, per_class_iou

SCORE_GROUPS = 4096
"""Groups of neighbouring confidence levels that the resampled ranking metrics are computed from."""


def resampled_metrics(
    accumulators: Sequence[BravoAccumulator],
    draws: int = 1000,
    seed: int = 0,
    semantic: bool = True,
    ood: bool = False,
) -> dict[str, np.ndarray]:
    """Metrics of test sets that are drawn from the images with replacement (the bootstrap).

    Pixels of one image are not independent, so whole images are drawn. Values of mIoU and ECE are exact. Those of
    AUROC, AUPRC and FPR95 come from 4096 groups of neighbouring confidence levels, cut so that each holds about the
    same share of correct, wrong and invalid pixels; ties inside a group move them by less than 0.001.

    Parameters
    ----------
    accumulators : sequence of BravoAccumulator
        One for each image (1.6 MB each), at least two.
    draws : int
        How many resampled test sets.
    seed : int
        With the same seed and number of images the same images are drawn, for any model: differences between models
        can be taken draw by draw.
    semantic, ood : bool
        Groups of metrics, as for ``BravoAccumulator.compute``.

    Returns
    -------
    dict
        Metric name to (draws,) float; NaN where a draw leaves a metric undefined.

    Raises
    ------
    MetricsError
        If there are fewer than two accumulators, no draw, or a metric is not defined on all images.

    Notes
    -----
    Method: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    if len(accumulators) < 2 or draws < 1:
        raise MetricsError(
            f"A bootstrap of {len(accumulators)} accumulators and {draws} draws is not "
            "defined; give one accumulator per image, 2 at least."
        )
    pooled = BravoAccumulator.total(accumulators)
    pooled.compute(semantic, ood)  # raises where a metric is not defined
    images = len(accumulators)
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    weights = weights.astype(np.float64)

    starts = _group_starts(pooled.correct, pooled.wrong, pooled.invalid)

    def resampled(counts: str) -> np.ndarray:
        return weights @ np.stack([np.add.reduceat(getattr(one, counts), starts) for one in accumulators])

    correct, wrong = resampled("correct"), resampled("wrong")
    drawn: dict[str, np.ndarray] = {}
    if semantic:
        confusion = np.einsum("di,ijk->djk", weights, np.stack([one.confusion for one in accumulators]))
        bins = [histograms.bin_sums(one.correct, one.wrong) for one in accumulators]
        sums = histograms.BinSums(*(weights @ np.stack(part) for part in zip(*bins, strict=True)))
        drawn["miou_valid"] = np.nanmean(per_class_iou(confusion), axis=-1)
        drawn["ece_valid"] = histograms.calibration_error(sums)
        drawn |= histograms.semantic_ranking(correct, wrong)
    if ood:
        drawn |= histograms.ood_ranking(resampled("invalid"), correct + wrong)
    return drawn


class MeanRanks(NamedTuple):
    """Mean rank of each method (1 is best), shape (methods,), and the smallest significant difference of two."""

    ranks: np.ndarray
    critical_difference: float


def mean_ranks(values: np.ndarray, level: float = 0.05) -> MeanRanks:
    """Ranks of methods, averaged over images, with the critical difference of Nemenyi's test.

    Parameters
    ----------
    values : array of float, shape (images, methods)
        Higher is better; ties share their mean rank.
    level : float
        Chance of calling any two equal methods different.

    Returns
    -------
    MeanRanks

    Raises
    ------
    MetricsError
        If there are fewer than two images or methods, or a value is NaN.

    Notes
    -----
    Method: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006, equation for CD.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or np.isnan(values).any():
        raise MetricsError(f"Ranks need two images, two methods and no NaN; the values have shape {values.shape}.")
    images, methods = values.shape
    quantile = studentized_range.ppf(1 - level, methods, np.inf) / np.sqrt(2)
    return MeanRanks(
        rankdata(-values, axis=1).mean(axis=0), float(quantile * np.sqrt(methods * (methods + 1) / (6 * images)))
    )


def _group_starts(*parts: np.ndarray) -> np.ndarray:
    """First level of each group; groups hold about equal shares of each histogram's pixels."""
    shares = np.sum([counts / max(counts.sum(), 1) for counts in parts], axis=0)
    before = np.append(0.0, np.cumsum(shares)[:-1]) / shares.sum()
    group = np.floor(before * SCORE_GROUPS)
    return np.flatnonzero(np.append(True, np.diff(group) > 0))
