"""Out-of-distribution detection for road scenes with InternImage features: one module per step of the method."""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "load_segmenter": "segmenter",
    "Segmenter": "segmenter",
    "Prediction": "segmenter",
    "PixelEmbedder": "embeddings",
    "EmbeddingStore": "store",
    "extract_embeddings": "store",
    "ClassKMeans": "clustering",
    "refine_confidence": "refinement",
    "novelty_map": "refinement",
    "bravo_metrics": "metrics",
    "encode_submission": "submission",
    "evaluate_submission": "submission",
    "load_dataset": "datasets",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``import iood_helpers`` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
