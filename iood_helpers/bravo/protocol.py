"""Which metrics the benchmark computes for which subset: the only place that knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..datasets.layouts import OWN_SUBSETS
from ..errors import MetricsError

SEMANTIC_METRICS = (
    *("miou_valid", "ece_valid", "auroc_valid"),
    *("auprc_success_valid", "auprc_error_valid", "fpr95_valid"),
)
OOD_METRICS = ("auroc_ood", "auprc_ood", "fpr95_ood")
LOWER_IS_BETTER = frozenset({"ece_valid", "fpr95_valid", "fpr95_ood"})

SEMANTIC_SUBSETS = (
    *("ACDCfog", "ACDCrain", "ACDCnight", "ACDCsnow"),
    *("synrain", "synobjs", "synflare", "outofcontext"),
)
OOD_SUBSETS = ("SMIYC", "synobjs")
KNOWN_SUBSETS = tuple(dict.fromkeys((*SEMANTIC_SUBSETS, *OOD_SUBSETS, *OWN_SUBSETS)))


def expand_splits(splits: Sequence[str]) -> list[str]:
    """Splits by name; ``"mini/*"`` stands for the nine subsets of the benchmark in the data set ``mini``.

    Examples
    --------
    >>> expand_splits(["camvid/test", "mini/*"])[:2], len(expand_splits(["mini/*"]))
    (['camvid/test', 'mini/ACDCfog'], 9)
    """
    subsets = dict.fromkeys((*SEMANTIC_SUBSETS, *OOD_SUBSETS))
    expanded = ([split.replace("*", s) for s in subsets] if split.endswith("/*") else [split] for split in splits)
    return [split for group in expanded for split in group]


class MetricGroups(NamedTuple):
    """Which groups of metrics a subset has."""

    semantic: bool
    ood: bool


def metrics_of(split: str, *, labelled: bool = True, unknown: bool = True) -> MetricGroups:
    """Groups of metrics that the protocol defines for a subset, as far as its labels allow them.

    Parameters
    ----------
    split : str
        A subset (``"ACDCfog"``), or a split with its data set (``"mini/ACDCfog"``); data outside of the benchmark have
        both groups.
    labelled : bool
        Whether every image has a label map.
    unknown : bool
        Whether there are pixels of unknown objects.

    Returns
    -------
    MetricGroups

    Raises
    ------
    MetricsError
        If a name without a data set is not a subset of the benchmark.

    Examples
    --------
    >>> metrics_of("SMIYC"), metrics_of("camvid/test", unknown=False)
    (MetricGroups(semantic=False, ood=True), MetricGroups(semantic=True, ood=False))
    """
    dataset, _, subset = split.rpartition("/")
    if not dataset and subset not in KNOWN_SUBSETS:
        raise MetricsError(f"There is no BRAVO subset {subset!r}; choose one of {', '.join(KNOWN_SUBSETS)}.")
    other = subset not in SEMANTIC_SUBSETS and subset not in OOD_SUBSETS
    return MetricGroups(
        semantic=labelled and (subset in SEMANTIC_SUBSETS or other), ood=unknown and (subset in OOD_SUBSETS or other)
    )
