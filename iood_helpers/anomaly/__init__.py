"""Metrics of anomaly scores as the field reports them: over pixels, within predicted classes, and by object."""

from .components import ANOMALY_TRACK, OBSTACLE_TRACK, ComponentAccumulator, Track
from .metrics import AnomalyAccumulator

__all__ = ["ANOMALY_TRACK", "OBSTACLE_TRACK", "AnomalyAccumulator", "ComponentAccumulator", "Track"]
