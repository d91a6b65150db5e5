"""Maps as PNG files and as pictures to look at."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..checks import LEVELS
from ..datasets.labels import PALETTE
from ..io import write_atomically
from .pipeline import Look

NOVELTY_UNIT = 8192
"""Level of a novelty of 1 in a 16-bit file; the largest is 8."""
UNKNOWN_COLOR = (255, 32, 96)
ENDINGS = {
    "classes": "_classes.png",
    "confidence": "_confidence.png",
    "novelty": "_novelty.png",
    "class picture": "_class_overlay.jpg",
    "novelty picture": "_novelty_overlay.jpg",
}
"""Ends of the names of the files of one picture."""


def paths(folder: Path, name: str) -> dict[str, Path]:
    """Files of the picture called ``name``."""
    return {what: folder / f"{name}{ending}" for what, ending in ENDINGS.items()}


def write_maps(folder: Path, name: str, picture: np.ndarray, look: Look) -> None:
    """Write class map (8 bits, with a palette), confidence and novelty (16 bits), and two overlays.

    Raises
    ------
    FileError
        If a file cannot be written.
    """
    files = paths(folder, name)
    classes = Image.fromarray(look.classes).convert("L")
    classes.putpalette(PALETTE.tobytes())
    images = {
        "classes": classes,
        "confidence": _levels(look.confidence, LEVELS - 1),
        "novelty": _levels(look.novelty, NOVELTY_UNIT),
        "class picture": Image.fromarray(class_overlay(picture, look.classes)),
        "novelty picture": Image.fromarray(novelty_overlay(picture, look)),
    }
    for what, image in images.items():
        write_atomically(files[what], partial(image.save, quality=90))  # PNG has no quality, and passes over it


def _levels(values: np.ndarray, unit: int) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values.astype(np.float64) * unit), 0, LEVELS - 1).astype(np.uint16))


def class_overlay(picture: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Picture (H, W, 3) uint8, half in the colours of its classes (H, W)."""
    return ((picture.astype(np.uint16) + PALETTE[classes]) // 2).astype(np.uint8)


def novelty_overlay(picture: np.ndarray, look: Look) -> np.ndarray:
    """Picture (H, W, 3) uint8 in grey, tinted where its classes cannot be trusted, with a line round the unknown.

    The tint is novelty, from none at 1 to the whole at 1.25, times doubt (1 minus confidence).
    """
    grey = np.repeat(picture.mean(2, keepdims=True) * 0.8 + 25, 3, axis=2)
    tint = (np.clip((look.novelty - 1) / 0.25, 0, 1) * (1 - look.confidence))[..., None]
    out = grey * (1 - 0.85 * tint) + 0.85 * tint * np.array(UNKNOWN_COLOR)
    inside = look.unknown
    rim = np.zeros_like(inside)
    rim[1:] |= inside[1:] != inside[:-1]
    rim[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    out[rim] = UNKNOWN_COLOR
    return out.round().astype(np.uint8)
