"""Other ways to score how unusual a pixel is, all with one signature."""

from ..renamed import old_names
from .base import Detector, FeatureBank, Untrained, as_confidence, moments, smoothed, stored_bytes
from .comparison import Comparison
from .distances import (
    KMeansDistance,
    Mahalanobis,
    NearestNeighbor,
    NearestNeighborGuidance,
    PerImageClustering,
    SharedKMeansDistance,
    ViM,
)
from .ensemble import Ensemble
from .logits import Energy, Entropy, LogOdds, MaxLogit, MaxSoftmax, StandardizedMaxLogit

__all__ = [
    "Comparison",
    "Detector",
    "Energy",
    "Ensemble",
    "Entropy",
    "FeatureBank",
    "KMeansDistance",
    "LogOdds",
    "Mahalanobis",
    "MaxLogit",
    "MaxSoftmax",
    "NearestNeighbor",
    "NearestNeighborGuidance",
    "PerImageClustering",
    "SharedKMeansDistance",
    "StandardizedMaxLogit",
    "Untrained",
    "ViM",
    "as_confidence",
    "moments",
    "smoothed",
    "stored_bytes",
]

__getattr__ = old_names(
    __name__,
    {
        "Bank": "FeatureBank",
        "NearestNeighbour": "NearestNeighbor",
        "NearestNeighbourGuidance": "NearestNeighborGuidance",
        "Score": "Detector",
        "Sum": "Ensemble",
    },
)
