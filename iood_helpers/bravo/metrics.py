"""Metrics of the BRAVO challenge from ground truth, predicted classes and confidences.

``BravoAccumulator`` counts, the pure functions of ``histograms`` turn counts into numbers, ``protocol`` says which of
them each subset has, and this module averages them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import MetricsError
from .accumulator import BravoAccumulator
from .protocol import (
    KNOWN_SUBSETS,
    LOWER_IS_BETTER,
    OOD_METRICS,
    OOD_SUBSETS,
    SEMANTIC_METRICS,
    SEMANTIC_SUBSETS,
    metrics_of,
)


def bravo_metrics(samples: Iterable | Mapping[str, Iterable], subset: str | None = None) -> dict[str, Any]:
    """Metrics of the BRAVO challenge for one set of images or for several subsets.

    Parameters
    ----------
    samples : iterable of (gt, invalid, classes, confidence), or {subset: such an iterable}
        One tuple per image, as ``BravoAccumulator.update`` takes them.
    subset : str, optional
        Name of a BRAVO subset (``"ACDCfog"``): keys get it as prefix, and only the metrics that the protocol
        defines for it are computed. Without it: semantic metrics if all images have labels, and OOD metrics if
        any sampled pixel is invalid.

    Returns
    -------
    dict
        Scalars 0..1 under the names of ``SEMANTIC_METRICS`` and ``OOD_METRICS``, and ``iou_valid``, a list of
        19 (NaN for a class that never occurs). For a mapping also ``<subset>_hmean`` and, if all subsets that
        enter are there, ``semantic_hmean`` (8 subsets), ``ood_hmean`` (2) and ``bravo_index``.

    Raises
    ------
    MetricsError
        If an input has a wrong shape or value, a subset is unknown, or a metric is not defined (no wrong
        pixel, no invalid pixel, no pixel at all); the message names the subset.

    Notes
    -----
    Definitions: evaluation toolkit of the BRAVO challenge (Vu et al., "The BRAVO Semantic Segmentation
    Challenge Results in UNCV2024"), whose numbers are reproduced to 1e-9.
    """
    if isinstance(samples, Mapping):
        if subset is not None:
            raise MetricsError("A mapping names its subsets itself; leave out the argument 'subset'.")
        results: dict[str, Any] = {}
        for name, images in samples.items():
            results |= bravo_metrics(images, name)
        return results | bravo_aggregates(results)
    accumulator = BravoAccumulator(subset)
    if subset is None:
        _count(samples, accumulator)
        return accumulator.compute(
            semantic=accumulator.labelled, ood=bool(accumulator.invalid.any()) or not accumulator.labelled
        )
    groups = metrics_of(subset)
    _count(samples, accumulator)
    return {f"{subset}_{key}": value for key, value in accumulator.compute(*groups).items()}


def subset_metrics(split: str, counts: BravoAccumulator) -> dict[str, Any]:
    """Metrics that the protocol asks of one split, as far as its labels allow them.

    Parameters
    ----------
    split : str
        As for :func:`.protocol.metrics_of`.
    counts : BravoAccumulator
        All images of the split.

    Returns
    -------
    dict
        ``<subset>_<metric>`` to value; empty where there are neither labels nor unknown objects.
    """
    groups = metrics_of(split, labelled=counts.labelled, unknown=bool(counts.invalid.any()))
    row = counts.compute(*groups) if any(groups) else {}
    return {f"{split.rpartition('/')[2]}_{key}": value for key, value in row.items()}


def _count(images: Iterable, accumulator: BravoAccumulator) -> None:
    for image in images:
        if not isinstance(image, tuple | list) or not 4 <= len(image) <= 5:
            raise MetricsError(
                "An image of the metrics is a tuple (gt, invalid, classes, confidence); add what is missing."
            )
        accumulator.update(*image)


def bravo_aggregates(results: Mapping[str, Any]) -> dict[str, float]:
    """Harmonic means over the metrics of subsets; ECE and FPR95 enter as 1 - x.

    Parameters
    ----------
    results : mapping
        ``<subset>_<metric>`` to value, as ``bravo_metrics`` gives them.

    Returns
    -------
    dict
        ``<subset>_hmean`` for each subset present; ``semantic_hmean`` (48 values), ``ood_hmean`` (6) and
        their harmonic mean ``bravo_index``, each only if nothing that enters is missing.
    """

    def values(subset: str, metrics: Iterable[str]) -> list[float]:
        found = [(metric, results.get(f"{subset}_{metric}")) for metric in metrics]
        return [1.0 - x if metric in LOWER_IS_BETTER else x for metric, x in found if x is not None]

    aggregates = {}
    for subset in KNOWN_SUBSETS:
        if scalars := values(subset, (*SEMANTIC_METRICS, *OOD_METRICS)):
            aggregates[f"{subset}_hmean"] = harmonic_mean(scalars)
    semantic = [x for subset in SEMANTIC_SUBSETS for x in values(subset, SEMANTIC_METRICS)]
    ood = [x for subset in OOD_SUBSETS for x in values(subset, OOD_METRICS)]
    if len(semantic) == len(SEMANTIC_SUBSETS) * len(SEMANTIC_METRICS):
        aggregates["semantic_hmean"] = harmonic_mean(semantic)
    if len(ood) == len(OOD_SUBSETS) * len(OOD_METRICS):
        aggregates["ood_hmean"] = harmonic_mean(ood)
    if "semantic_hmean" in aggregates and "ood_hmean" in aggregates:
        both = (aggregates["semantic_hmean"], aggregates["ood_hmean"])
        aggregates["bravo_index"] = harmonic_mean(both)
    return aggregates


def harmonic_mean(values: Iterable[float]) -> float:
    """Harmonic mean of values 0..1; 0 as soon as one of them is 0.

    Raises
    ------
    MetricsError
        If there is no value, or one is negative, NaN or infinite.

    Examples
    --------
    >>> harmonic_mean([0.5, 1.0]), harmonic_mean([0.0, 1.0])
    (0.6666666666666666, 0.0)
    """
    array = np.fromiter(values, dtype=np.float64)
    if array.size == 0 or not ((array >= 0) & (array < np.inf)).all():
        raise MetricsError("A harmonic mean needs at least one value, none negative or NaN; check the metrics.")
    return 0.0 if (array == 0).any() else float(array.size / (1.0 / array).sum())
