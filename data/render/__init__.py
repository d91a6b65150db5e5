"""Renderer of the mini street scenes: all 19 Cityscapes classes with exact labels, from a seed."""

from .objects import DEVELOPMENT_KINDS, HELD_OUT_KINDS, KINDS
from .scene import Scene, encode_jpeg, render_scene
from .subsets import FIRST_SEED, render_subset_scene

__all__ = [
    "DEVELOPMENT_KINDS",
    "FIRST_SEED",
    "HELD_OUT_KINDS",
    "KINDS",
    "Scene",
    "encode_jpeg",
    "render_scene",
    "render_subset_scene",
]
