"""Calibrated probabilities after a refinement: a strictly rising curve that leaves every ranking as it is.

Source: beta calibration, Kull et al., AISTATS 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy.optimize import minimize

from ..datasets.labels import NUM_CLASSES
from ..errors import RefinementError
from .distances import Distances

if TYPE_CHECKING:
    from ..datasets.samples import Sample
    from ..model.segmenter import Segmenter
    from .embedder import PixelEmbedder
    from .kmeans import ClassKMeans
    from .refinement import CalibratedRule
    from .surplus import SurplusRule

    Rule = TypeVar("Rule", bound=CalibratedRule | SurplusRule)

EPS = 1e-6


def log_odds(confidence: np.ndarray) -> np.ndarray:
    """``log(c / (1 - c))`` of confidences 0..1, float64 within +-13.8.

    Squeezed, not clipped, into the open interval: clipping would tie the most certain pixels.
    """
    inner = EPS + (1 - 2 * EPS) * np.asarray(confidence, np.float64)
    return np.log(inner) - np.log1p(-inner)


@dataclass
class Recalibration:
    """Beta calibration ``1 / (1 + exp(-(a log c - b log(1 - c) + m)))`` with a, b > 0, so that no ties arise.

    Attributes
    ----------
    a_, b_, m_ : float
        Fitted shape; that of a new one leaves confidences as they are.
    """

    a_: float = 1.0
    b_: float = 1.0
    m_: float = 0.0

    def fit(self, confidence: np.ndarray, correct: np.ndarray) -> Recalibration:
        """Maximum likelihood on in-distribution pixels.

        Parameters
        ----------
        confidence : numpy.ndarray
            (n,) 0..1.
        correct : numpy.ndarray
            (n,) bool: whether the predicted class is the true one.

        Raises
        ------
        RefinementError
            If all pixels are right or all are wrong, or there are none.
        """
        confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
        if not correct.any() or correct.all():
            raise RefinementError("Recalibration needs right and wrong pixels; take more calibration images.")
        features = self._features(confidence)

        def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            a, b = np.exp(parameters[:2])
            logit = a * features[0] + b * features[1] + parameters[2]
            signed = np.where(correct, logit, -logit)
            slope = np.where(correct, -1.0, 1.0) / (1 + np.exp(np.clip(signed, -60, 60)))
            gradient = [a * (slope * features[0]).mean(), b * (slope * features[1]).mean(), slope.mean()]
            return float(np.logaddexp(0, -signed).mean()), np.array(gradient)

        found = minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B", bounds=[(-5, 4), (-5, 4), (-20, 20)])
        self.a_, self.b_ = map(float, np.exp(found.x[:2]))
        self.m_ = float(found.x[2])
        return self

    def __call__(self, confidence: np.ndarray) -> np.ndarray:
        """Recalibrated confidence, same shape, float32 within 0..1."""
        first, second = self._features(np.asarray(confidence, np.float64))
        logit = self.a_ * first + self.b_ * second + self.m_
        return (1 / (1 + np.exp(-logit))).astype(np.float32)

    @staticmethod
    def _features(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inner = EPS + (1 - 2 * EPS) * confidence
        return np.log(inner), -np.log1p(-inner)


def recalibrate(
    rules: Mapping[str, Rule],
    segmenter: Segmenter,
    samples: Iterable[Sample],
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    *,
    every: int = 7,
    left_out: Mapping[int, ClassKMeans] | None = None,
) -> dict[str, Rule]:
    """The same rules, each with a recalibration fitted on the confidences that it gives calibration images.

    Parameters
    ----------
    rules : mapping of str to CalibratedRule or SurplusRule
        Rules by name.
    segmenter : Segmenter
        Sees each image once.
    samples : iterable of Sample
        Calibration images, with labels.
    kmeans, embedder
        As for ``refine_confidence``.
    every : int
        One of so many labelled pixels is used.
    left_out : mapping of int to ClassKMeans, optional
        By an image's place in ``samples``, clusters that have not seen it, where ``kmeans`` has.

    Raises
    ------
    RefinementError
        If an image has no label map, or the images show no wrong pixel, or no right one.
    """
    rules = {name: replace(rule, recalibration=None) for name, rule in rules.items()}
    pairs: dict[str, list] = {name: [] for name in rules}
    for number, sample in enumerate(samples):
        prediction, label = segmenter.predict(sample.image()), sample.label()
        if label is None:
            raise RefinementError(
                f"The calibration image {sample.name} has no label map; calibrate on images that have one."
            )
        distances = Distances(prediction, (left_out or {}).get(number, kmeans), embedder)
        labelled = label < NUM_CLASSES
        right = (prediction.classes == label)[labelled][::every]
        for name, rule in rules.items():
            pairs[name].append((rule.apply(prediction, distances)[0][labelled][::every], right))
    columns = {name: map(np.concatenate, zip(*found, strict=True)) for name, found in pairs.items()}
    return {name: replace(rule, recalibration=Recalibration().fit(*columns[name])) for name, rule in rules.items()}
