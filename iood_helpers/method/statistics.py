"""How far in-distribution cells lie from the centres, and how unlike each other images are: four numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm

from ..errors import ClusteringError


@dataclass(frozen=True)
class DistanceStatistics:
    """How far the cells of calibration images lie from the nearest shared centre.

    Attributes
    ----------
    mean, std : float
        Of all cells of all images.
    image_mean, image_std : float
        Of the cells of a rather unusual image: the mean over images, plus one standard deviation between images.
    smooth, segment : float
        How the distances were averaged: :meth:`Distances.averaged`.
    """

    mean: float
    std: float
    image_mean: float
    image_std: float
    smooth: float = 2.0
    segment: float = 0.5

    def __post_init__(self) -> None:
        values = np.array([*asdict(self).values()], np.float64)
        if not np.isfinite(values).all() or values.min() < 0 or min(self.std, self.image_std) <= 0 or self.segment > 1:
            raise ClusteringError(f"The statistics of the distances are impossible: {self}.")

    @classmethod
    def from_maps(cls, maps: Iterable[np.ndarray], smooth: float = 2.0, segment: float = 0.5) -> DistanceStatistics:
        """Statistics of averaged distance maps (h, w), one for each image; they may differ in size.

        Raises
        ------
        ClusteringError
            If there are no maps, or all distances are equal.
        """
        maps = [np.asarray(each, np.float64) for each in maps]
        if not maps:
            raise ClusteringError("There is no calibration image; statistics of distances need at least one.")
        cells = np.concatenate([each.ravel() for each in maps])
        images = np.array([[each.mean(), each.std()] for each in maps])
        usual = images.mean(0) + images.std(0)
        return cls(float(cells.mean()), float(cells.std()), float(usual[0]), float(usual[1]), smooth, segment)

    def evidence(self, distance: np.ndarray) -> np.ndarray:
        """Log-odds against each cell, float64, 0 and up: ``z ** 2 / 2``, the logarithm of a Gaussian's tail.

        Beyond the farthest calibration cell this is an extrapolation: it ranks cells, it is no probability.
        """
        return np.maximum((distance - self.mean) / self.std, 0) ** 2 / 2

    def unexplained(self, distance: np.ndarray) -> np.ndarray:
        """Share of the cells of this image (0..1) at each distance or beyond that a rather unusual image has not."""
        order = np.argsort(distance, axis=None, kind="stable")
        far = 1 - np.arange(distance.size) / distance.size  # share of its cells that are at least this far
        surplus = np.log(far) - norm.logsf(distance.ravel()[order], self.image_mean, self.image_std)
        share = np.empty(distance.size)
        share[order] = -np.expm1(-np.maximum.accumulate(np.maximum(surplus, 0)))
        return share.reshape(distance.shape)
