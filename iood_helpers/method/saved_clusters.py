"""Files of fitted clusters: what ``ClassKMeans.save`` writes, and whether a file holds what a fit can have learned."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ClusteringError
from .fitted import load_fitted, save_fitted
from .statistics import DistanceStatistics

if TYPE_CHECKING:
    from .kmeans import ClassKMeans

MAX_VALUE = 1e15
"""Larger numbers are refused: their squares and sums leave the range of float32."""
MAX_INERTIA = 1e60
"""No fit of such numbers gives more, and its root is within float32."""
ARRAY_NAME = re.compile(r"(centers|counts|quantiles)\.((?:(?<=quantiles\.)-1)|[0-9]|1[0-8])")


def write_clusters(model: ClassKMeans, path: str | Path) -> Path:
    """Write a fitted model as safetensors; the same model gives the same bytes."""
    by_class = {"centers": model.centers_, "counts": model.counts_, "quantiles": model.quantiles_}
    arrays = {f"{name}.{c}": array for name, each in by_class.items() for c, array in each.items()}
    if len(model.shared_centers_):
        arrays["shared"] = model.shared_centers_
    statistics = asdict(model.statistics_) if model.statistics_ else None
    content = {"parameters": model.get_params(), "inertia": model.inertia_, "statistics": statistics}
    return save_fitted(path, "ClassKMeans", arrays, **content)


def read_clusters(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and what was learned, by the names of the attributes; parameters are left to the caller to check.

    Raises
    ------
    ValueError
        If the file is missing, damaged or of another kind, or its arrays are not those of a fitted model.
    """
    arrays, values = load_fitted(path, "ClassKMeans", ("parameters", "inertia", "statistics"))
    if not isinstance(values["parameters"], dict):
        raise ValueError("its parameters are not those of this version")
    shared = arrays.pop("shared", None)
    found: dict[str, dict[int, np.ndarray]] = {"centers": {}, "counts": {}, "quantiles": {}}
    for key, array in arrays.items():
        match = ARRAY_NAME.fullmatch(key)
        if not match or not np.isfinite(array).all():
            raise ValueError(f"the array {key} has an unknown name or impossible values")
        found[match[1]][int(match[2])] = array
    _check_centers(found["centers"], found["counts"])
    _check_quantiles(found["quantiles"])
    width = next(iter(found["centers"].values())).shape[1]
    if shared is None:
        shared = np.zeros((0, width), np.float32)
    elif not np.isfinite(shared).all() or not _are_centers(shared, width):
        raise ValueError("the shared centres are impossible")
    learned: dict[str, Any] = {f"{name}_": each for name, each in found.items()}
    learned |= {"inertia_": _inertia(values["inertia"], found["centers"]), "shared_centers_": shared}
    return values["parameters"], learned | {"statistics_": _statistics(values["statistics"])}


def _inertia(inertia: object, centers: dict[int, np.ndarray]) -> dict[int, float]:
    names = {str(c) for c in centers}
    if not isinstance(inertia, dict) or inertia.keys() != names or not all(map(_is_amount, inertia.values())):
        raise ValueError("its inertia does not fit the centres")
    return {int(c): float(v) for c, v in inertia.items()}


def _statistics(statistics: object) -> DistanceStatistics | None:
    if statistics is None:
        return None
    if not isinstance(statistics, dict) or not all(map(_is_amount, statistics.values())):
        raise ValueError("its statistics are no numbers")
    try:
        return DistanceStatistics(**statistics)
    except (TypeError, ClusteringError) as error:
        raise ValueError("its statistics are not those of a calibration") from error


def _check_centers(centers: dict[int, np.ndarray], counts: dict[int, np.ndarray]) -> None:
    """ValueError unless each class has centres of one width, each with a count."""
    if not centers or centers.keys() != counts.keys():
        raise ValueError("centres and counts are not of the same classes")
    for c, center in centers.items():
        if not _are_centers(center):
            raise ValueError(f"the centres of class {c} are impossible")
        n = counts[c]
        if n.shape != (len(center),) or n.dtype != np.int64 or n.min() < 0 or n.sum() < 1:
            raise ValueError(f"the counts of class {c} are impossible")
    if len({center.shape[1] for center in centers.values()}) > 1:
        raise ValueError("centres differ in width")


def _are_centers(center: np.ndarray, width: int | None = None) -> bool:
    if center.ndim != 2 or not center.size or center.dtype != np.float32:
        return False
    return width in (None, center.shape[1]) and np.abs(center).max() <= MAX_VALUE


def _check_quantiles(quantiles: dict[int, np.ndarray]) -> None:
    """ValueError unless all are rising distances, and the pooled ones are among them."""
    if quantiles and -1 not in quantiles:
        raise ValueError("the pooled distances are missing")
    for c, q in quantiles.items():
        if q.ndim != 1 or not len(q) or q.dtype != np.float32 or q[0] < 0 or (np.diff(q) < 0).any():
            raise ValueError(f"the distances of class {c} are not sorted")


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_INERTIA
