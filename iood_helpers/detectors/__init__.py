"""Other ways to score how unusual a pixel is, all with one signature."""

from .base import Bank, Score, as_confidence, moments, smoothed, stored_bytes
from .distances import (
    KMeansDistance,
    Mahalanobis,
    NearestNeighbour,
    NearestNeighbourGuidance,
    PerImageClustering,
    ViM,
)
from .ensemble import Sum
from .logits import Energy, Entropy, LogOdds, MaxLogit, MaxSoftmax, StandardizedMaxLogit

__all__ = [
    "Bank",
    "Energy",
    "Entropy",
    "KMeansDistance",
    "LogOdds",
    "Mahalanobis",
    "MaxLogit",
    "MaxSoftmax",
    "NearestNeighbour",
    "NearestNeighbourGuidance",
    "PerImageClustering",
    "Score",
    "StandardizedMaxLogit",
    "Sum",
    "ViM",
    "as_confidence",
    "moments",
    "smoothed",
    "stored_bytes",
]
