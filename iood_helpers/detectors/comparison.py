"""Detectors side by side: fitted on one bank, scored on the same images, and what each of them costs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RefinementError
from ..method.distances import upsample
from .base import Detector, FeatureBank, as_confidence, moments, smoothed, stored_bytes
from .ensemble import Ensemble

if TYPE_CHECKING:
    from ..model.segmenter import Prediction


class Comparison:
    """Several detectors on equal terms; what ensembles share is fitted once, and its maps are computed once.

    Parameters
    ----------
    detectors : mapping of str to Detector
        Detectors by name. Those that an ensemble adds up take part, too.

    Attributes
    ----------
    moments_ : dict of str to (float, float)
        Mean and standard deviation of each detector's maps over the calibration images.

    Raises
    ------
    RefinementError
        If an ensemble adds up a detector that does not take part.
    """

    def __init__(self, detectors: Mapping[str, Detector]) -> None:
        self.detectors = dict(detectors)
        names = {id(one): name for name, one in self.detectors.items()}
        ensembles = {name: one for name, one in self.detectors.items() if isinstance(one, Ensemble)}
        self._single = {name: one for name, one in self.detectors.items() if name not in ensembles}
        if not all(names.get(id(part)) in self._single for one in ensembles.values() for part in one.detectors):
            raise RefinementError("An ensemble adds up a detector that does not take part; add that one, too.")
        self._parts = {name: [names[id(part)] for part in one.detectors] for name, one in ensembles.items()}

    def fit(self, bank: FeatureBank, predictions: Iterable[Prediction]) -> Comparison:
        """Fit every detector, and learn the moments of its maps.

        Parameters
        ----------
        bank : FeatureBank
            In-distribution pixels.
        predictions : iterable of Prediction
            Those of a few calibration images, of which only the maps are kept.
        """
        self._fit_seconds: dict[str, float] = {}
        for name, one in self._single.items():
            start = time.perf_counter()
            one.fit(bank)
            self._fit_seconds[name] = time.perf_counter() - start
        maps: dict[str, list[np.ndarray]] = {name: [] for name in self._single}
        for prediction in predictions:
            for name, one in self._single.items():
                maps[name].append(one.score(prediction))
        for name, parts in self._parts.items():
            ensemble = self.detectors[name].scale([maps[part] for part in parts])
            maps[name] = [ensemble.combine(each) for each in zip(*(maps[part] for part in parts), strict=True)]
        self.moments_ = {name: moments(maps[name]) for name in self.detectors}
        self._score_seconds, self._images = dict.fromkeys(self._single, 0.0), 0
        return self

    def score(self, prediction: Prediction) -> dict[str, np.ndarray]:
        """Map (h, w) of every detector, higher is more unusual; the time that each takes is noted."""
        maps = {}
        for name, one in self._single.items():
            start = time.perf_counter()
            maps[name] = one.score(prediction)
            self._score_seconds[name] += time.perf_counter() - start
        for name, parts in self._parts.items():
            maps[name] = self.detectors[name].combine([maps[part] for part in parts])
        self._images += 1
        return {name: maps[name] for name in self.detectors}

    def confidences(self, prediction: Prediction, *sigmas: float) -> Iterator[tuple[tuple[str, float], np.ndarray]]:
        """Confidence maps (H, W) in 0..1 of every detector, one after another, as ``(name, sigma), map``.

        Parameters
        ----------
        prediction : Prediction
            Output of the segmenter for one image.
        *sigmas : float
            Standard deviations, in cells, of the Gaussians that average scores over neighbours; 0 for none.
        """
        for name, cells in self.score(prediction).items():
            for sigma in sigmas:
                values = upsample(smoothed(cells, sigma), prediction.shape)
                yield (name, sigma), as_confidence(values, *self.moments_[name])

    @property
    def costs(self) -> dict[str, dict[str, float]]:
        """``fit`` in seconds, ``image`` in seconds (mean over what :meth:`score` has seen), ``bytes`` kept after fit.

        An ensemble costs what its detectors cost.
        """
        own = {
            name: {
                "fit": self._fit_seconds[name],
                "image": self._score_seconds[name] / max(self._images, 1),
                "bytes": stored_bytes(one),
            }
            for name, one in self._single.items()
        }
        for name, parts in self._parts.items():
            own[name] = {key: sum(own[part][key] for part in parts) for key in ("fit", "image", "bytes")}
        return own
