"""Several detectors together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RefinementError
from .base import Detector, FeatureBank, moments

if TYPE_CHECKING:
    from ..model.segmenter import Prediction


class Ensemble:
    """The sum of several detectors, each standardised by mean and standard deviation over in-distribution images.

    Parameters
    ----------
    *detectors : Detector
        What to add. Ensembles may share detectors: each is fitted once (see :meth:`fit`).
    """

    def __init__(self, *detectors: Detector) -> None:
        self.detectors = detectors

    def fit(self, bank: FeatureBank) -> Ensemble:
        """Learn mean and standard deviation of each detector on the calibration images of the bank.

        Detectors that have learned already stay as they are; the others are fitted first.

        Raises
        ------
        RefinementError
            If the bank has no calibration images.
        """
        if not bank.calibration_images:
            raise RefinementError("An ensemble learns the scale of its detectors; give the bank calibration images.")
        for detector in self.detectors:
            if not any(name.endswith("_") for name in vars(detector)):
                detector.fit(bank)
        return self.scale([[one.score(prediction) for prediction in bank.calibration_images] for one in self.detectors])

    def scale(self, maps: Sequence[Sequence[np.ndarray]]) -> Ensemble:
        """Learn mean and standard deviation from maps of each (fitted) detector over some in-distribution images."""
        self.moments_ = [moments(one) for one in maps]
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        return self.combine([one.score(prediction) for one in self.detectors])

    def combine(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """The sum, from the map of each detector: where ensembles share detectors, each map is computed once."""
        return np.sum([(one - m) / d for one, (m, d) in zip(maps, self.moments_, strict=True)], axis=0)
