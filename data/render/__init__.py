"""Renderer of the mini street scenes: all 19 Cityscapes classes with exact labels, from a seed."""

from .scene import Scene, encode_jpeg, render_scene

__all__ = ["Scene", "encode_jpeg", "render_scene"]
