"""The rule for scenes and photographs alike: a penalty for what is far, where an image holds too much of it.

Two questions decide the penalty of a cell. How far is it, in standard deviations of in-distribution cells? And does its
image hold more cells this far than a rather unusual in-distribution image does? The share of cells that such an image
cannot explain is one minus a false-discovery rate (Efron, *Large-Scale Inference*, 2010, chapter 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm
from tqdm.auto import tqdm

from ..errors import RefinementError
from .calibration import Recalibration, log_odds
from .distances import Distances, upsample
from .options import check_confidence, check_options
from .statistics import DistanceStatistics

if TYPE_CHECKING:
    from ..datasets.samples import Sample
    from ..model.segmenter import Prediction, Segmenter
    from .embedder import PixelEmbedder
    from .kmeans import ClassKMeans


@dataclass(frozen=True)
class SurplusRule:
    """A penalty on the log-odds that is as strong as the evidence, where an image holds more of it than it should.

    ``log-odds' = log-odds - bound * tanh(evidence * unexplained / bound)``, with the two terms of
    :class:`DistanceStatistics` for distances to the nearest *shared* centre: what a network says of an unknown object
    is a guess, and this distance does not depend on it.

    Attributes
    ----------
    bound : float, default=5.0
        Largest penalty, in units of log-odds, positive. 5 on the rendered scenes: the largest that costs at most 0.005
        of the semantic mean on development scenes. 20 on photographs: none cost anything on CamVid's validation frames,
        and beyond it nothing changes.
    alpha : float, default=0.01
        The mask holds pixels farther than all but this share of a Gaussian with the mean and standard deviation of the
        calibration images' cells, 0..1.
    recalibration : Recalibration, optional
        Fitted on refined confidences of calibration pixels; makes them calibrated probabilities again.
    """

    bound: float = 5.0
    alpha: float = 0.01
    recalibration: Recalibration | None = None

    def __post_init__(self) -> None:
        check_options(self, bound=(1e-6, 1e3), alpha=(0, 1))

    def apply(self, prediction: Prediction, distances: Distances) -> tuple[np.ndarray, np.ndarray]:
        """Confidence (H, W) float32 in 0..1, and mask of far pixels (H, W) bool."""
        check_confidence(prediction.confidence)
        usual = distances.kmeans.statistics_
        if usual is None:
            raise RefinementError(
                "The clusters have no statistics of distances; fit them with n_shared and call calibrate_on_images."
            )
        distance = distances.averaged(usual.smooth, usual.segment)
        penalty = self.bound * np.tanh(usual.evidence(distance) * usual.unexplained(distance) / self.bound)
        odds = log_odds(prediction.confidence) - upsample(penalty, prediction.shape)
        confidence = (1 / (1 + np.exp(-odds))).astype(np.float32)
        if self.recalibration is not None:
            confidence = self.recalibration(confidence)
        return confidence, upsample(distance, prediction.shape) > norm.isf(self.alpha, usual.mean, usual.std)


def calibrate_on_images(
    kmeans: ClassKMeans,
    segmenter: Segmenter,
    samples: Iterable[Sample],
    embedder: PixelEmbedder,
    *,
    left_out: Mapping[int, ClassKMeans] | None = None,
    smooth: float = 2.0,
    segment: float = 0.5,
) -> ClassKMeans:
    """Learn how far the cells of whole calibration images lie: sets ``kmeans.statistics_`` and returns ``kmeans``.

    Parameters
    ----------
    kmeans : ClassKMeans
        Fitted, with shared centres.
    segmenter : Segmenter
        Sees each image once.
    samples : iterable of Sample
        Calibration images of known things; labels are not used. With ten images of one's own town the rate of
        false alarms is within three times of what is asked for, with one within eleven times.
    embedder : PixelEmbedder
        The one whose vectors ``kmeans`` was fitted on.
    left_out : mapping of int to ClassKMeans, optional
        For images that ``kmeans`` was fitted on: by an image's place in ``samples``, clusters that have not seen it
        (:meth:`ClassKMeans.leaving_out`). They get the same statistics.
    smooth, segment : float, default=2.0, 0.5
        As in :meth:`Distances.averaged`.

    Raises
    ------
    ClusteringError
        If there is no image.
    RefinementError
        If the clusters have no shared centres.
    """
    maps, left_out = [], left_out or {}
    for number, sample in enumerate(tqdm(samples, "calibrate")):
        distances = Distances(segmenter.predict(sample.image()), left_out.get(number, kmeans), embedder)
        maps.append(distances.averaged(smooth, segment))
    statistics = DistanceStatistics.from_maps(maps, smooth, segment)
    for model in (kmeans, *left_out.values()):
        model.statistics_ = statistics
    return kmeans
