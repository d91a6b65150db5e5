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
    """Several scores, each measured by mean and spread over ordinary images, added.

    Parameters
    ----------
    *scores
        What to add.
    """

    def __init__(self, *scores: Detector) -> None:
        self.scores = scores

    def fit(self, bank: FeatureBank) -> Ensemble:
        """Fit the parts, and learn mean and spread of each on the held images of the bank.

        Raises
        ------
        RefinementError
            If the bank has no held images.
        """
        if not bank.calibration_images:
            raise RefinementError("A sum of scores has to know their spread; give the bank some held images.")
        fitted = [score.fit(bank) for score in self.scores]
        return self.scale([[score.score(prediction) for prediction in bank.calibration_images] for score in fitted])

    def scale(self, maps: Sequence[Sequence[np.ndarray]]) -> Ensemble:
        """Learn mean and spread of parts that are fitted already, from maps of each part over some ordinary images."""
        self.moments_ = [moments(part) for part in maps]
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        return self.combine([score.score(prediction) for score in self.scores])

    def combine(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """The sum, from the map of each part: where parts serve several sums, each is computed once."""
        return np.sum([(part - m) / d for part, (m, d) in zip(maps, self.moments_, strict=True)], axis=0)
