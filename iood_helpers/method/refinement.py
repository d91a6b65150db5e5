"""The decision: lower the confidence of pixels that lie far from what is normal.

Four rules: the published one of InternImage-OOD, step by step; a calibrated one that every subset can bear; the
calibrated one that averages the network's log-odds over neighbours first; and the one of ``surplus``, for photographs,
too. A rule is a set of options with ``apply(prediction, distances)``; :func:`refine_confidence` is the short way.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from ..errors import RefinementError
from ..renamed import old_names, warn
from .calibration import Recalibration, log_odds
from .distances import Distances, upsample
from .embedder import PixelEmbedder
from .kmeans import ClassKMeans
from .options import check_confidence, check_options
from .published import PublishedRule
from .surplus import SurplusRule

if TYPE_CHECKING:
    from ..model.segmenter import Prediction

__all__ = [
    "CalibratedRule",
    "Distances",
    "FusedRule",
    "PublishedRule",
    "SurplusRule",
    "novelty_map",
    "refine_confidence",
    "upsample",
]


@dataclass(frozen=True)
class CalibratedRule:
    """A penalty on the log-odds that grows with the distance; no threshold, no constant.

    ``log-odds' = log-odds - strength * tanh(max(d - 1, 0) / width)`` with d of :meth:`Distances.novelty`. Distance is
    evidence against the predicted class, and evidence multiplies odds. The penalty is bounded: where a whole image is
    unusual (night, rain), it is the same for every pixel and the network's own ranking stays.

    Attributes
    ----------
    strength : float, default=2.5
        Largest penalty, in units of log-odds: 2.5 divides the odds of being right by 12. 0..1000.
    width : float, default=0.1
        Excess distance at which the penalty is three quarters of the largest, positive.
    quantile, smooth : float, default=0.85, 4.0
        As in :meth:`Distances.novelty`.
    alpha : float, default=0.01
        The mask holds pixels with a tail probability below this: the false-alarm rate on in-distribution pixels, 0..1.
    recalibration : Recalibration, optional
        Fitted on refined confidences of calibration pixels; makes them calibrated probabilities again.
    """

    strength: float = 2.5
    width: float = 0.1
    quantile: float = 0.85
    smooth: float = 4.0
    alpha: float = 0.01
    recalibration: Recalibration | None = None

    def __post_init__(self) -> None:
        check_options(self, strength=(0, 1e3), width=(1e-6, 1e6), quantile=(0, 1), smooth=(0, 1e3), alpha=(0, 1))

    def apply(self, prediction: Prediction, distances: Distances) -> tuple[np.ndarray, np.ndarray]:
        """Confidence (H, W) float32 in 0..1, and mask of far pixels (H, W) bool."""
        check_confidence(prediction.confidence)
        excess = np.maximum(distances.novelty(self.quantile, self.smooth) - 1, 0)
        penalty = self.strength * np.tanh(excess / self.width)
        confidence = (1 / (1 + np.exp(penalty - self._odds(prediction)))).astype(np.float32)
        if self.recalibration is not None:
            confidence = self.recalibration(confidence)
        return confidence, distances.beyond(self.alpha)

    def _odds(self, prediction: Prediction) -> np.ndarray:
        return log_odds(prediction.confidence)


@dataclass(frozen=True)
class FusedRule(CalibratedRule):
    """The calibrated rule, with log-odds averaged over neighbours first.

    Where the network is unsure of one pixel it is mostly unsure of the next one too, and its uncertainty and the
    distances miss different pixels. So a smaller penalty is enough, which costs less on in-distribution scenes.
    Averaging works both ways: an unsure pixel among sure ones gains confidence (up to 0.46 on the shipped scenes).

    Attributes
    ----------
    blend : float, default=0.35
        Share of the averaged log-odds, 0..1; the rest is the pixel's own.
    sigma : float, default=1.5
        Standard deviation of the Gaussian that averages log-odds, in cells of the logits' grid, 0..1000.
    strength, width, quantile, smooth, alpha, recalibration
        As in :class:`CalibratedRule`; the default strength is 1.75.
    """

    strength: float = 1.75
    blend: float = 0.35
    sigma: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, blend=(0, 1), sigma=(0, 1e3))

    def _odds(self, prediction: Prediction) -> np.ndarray:
        own = log_odds(prediction.confidence)
        cell = prediction.shape[0] / prediction.logits.shape[1]
        around = gaussian_filter(own, self.sigma * cell, mode="nearest")
        return (1 - self.blend) * own + self.blend * around


RULES: dict[str, type[CalibratedRule | PublishedRule | SurplusRule]] = {
    "calibrated": CalibratedRule,
    "fused": FusedRule,
    "published": PublishedRule,
    "surplus": SurplusRule,
}
OLD_OPTIONS = {"neighbours": "blend", "reach": "sigma", "gate": "confidence_threshold"}


def refine_confidence(
    prediction: Prediction,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    mode: Literal["calibrated", "fused", "published", "surplus"] = "calibrated",
    *,
    distances: Distances | None = None,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Refine the confidence map of one image.

    Parameters
    ----------
    prediction : Prediction
        Output of the segmenter.
    kmeans : ClassKMeans
        Fitted centres; calibrated ones for modes "calibrated" and "fused", and for "surplus" such as have shared
        centres and statistics (``surplus.calibrate_on_images``).
    embedder : PixelEmbedder
        The one whose vectors ``kmeans`` was fitted on.
    mode : {"calibrated", "fused", "published", "surplus"}
        Which rule.
    distances : Distances, optional
        Those of this image with these clusters, where several rules use them; None measures them.
    **options
        Fields of :class:`CalibratedRule`, :class:`FusedRule`, :class:`PublishedRule` or :class:`SurplusRule`.

    Returns
    -------
    confidence : numpy.ndarray
        (H, W) float32 in 0..1.
    ood_mask : numpy.ndarray
        (H, W) bool.

    Raises
    ------
    RefinementError
        If mode or an option is unknown or out of range, confidences are NaN or outside 0..1, the model is not
        calibrated, or vectors and centres differ in length.
    EmbeddingError
        If features are NaN or infinite.
    ClusteringError
        If features are too large for distances.
    """
    if mode not in RULES:
        raise RefinementError(f"Unknown mode {mode!r}; use {', '.join(map(repr, RULES))}.")
    known = [field.name for field in fields(RULES[mode])]
    for old in [name for name in options if OLD_OPTIONS.get(name) in known]:
        warn(f"The option {old}", OLD_OPTIONS[old])
        options[OLD_OPTIONS[old]] = options.pop(old)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise RefinementError(f"Mode {mode!r} has no option {unknown[0]!r}; it has {', '.join(known)}.")
    if distances is None:
        distances = Distances(prediction, kmeans, embedder)
    elif not (distances.prediction is prediction and distances.kmeans is kmeans and distances.embedder is embedder):
        raise RefinementError("The distances are those of another image, clusters or embedder; measure them anew.")
    return RULES[mode](**options).apply(prediction, distances)


def novelty_map(
    prediction: Prediction,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    *,
    quantile: float = 0.85,
    smooth: float = 4.0,
) -> np.ndarray:
    """How far each pixel lies from what is normal for its predicted class: see :meth:`Distances.novelty`.

    Parameters
    ----------
    prediction, kmeans, embedder
        As in :func:`refine_confidence`.
    quantile, smooth : float, default=0.85, 4.0
        As in :meth:`Distances.novelty`.

    Returns
    -------
    numpy.ndarray
        (H, W) float32, 0 and up; above 1 is farther than the given share of calibration pixels.
    """
    return Distances(prediction, kmeans, embedder).novelty(quantile, smooth)


__getattr__ = old_names(__name__, {"enlarge": "upsample"})
