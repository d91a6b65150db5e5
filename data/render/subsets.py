"""The test subsets: which scene, which change, which pixels are invalid."""

from __future__ import annotations

import numpy as np

from . import weather
from .objects import DEVELOPMENT_KINDS, HELD_OUT_KINDS, KINDS, UNKNOWN, place_objects
from .scene import Scene, paint_scene, photograph
from .street import shrink

FIRST_SEED = {
    "ACDCfog": 200_000,
    "ACDCrain": 201_000,
    "ACDCnight": 202_000,
    "ACDCsnow": 203_000,
    "synrain": 204_000,
    "synflare": 205_000,
    "outofcontext": 206_000,
    "synobjs": 210_000,
    "SMIYC": 220_000,
    "devobjs": 230_000,
    "newobjs": 240_000,
}
"""First seed of each subset; scene i has seed first + i."""

OBJECTS = {"synobjs": KINDS, "SMIYC": KINDS, "devobjs": DEVELOPMENT_KINDS, "newobjs": HELD_OUT_KINDS}
"""Kinds of unknown objects of the subsets that have any."""

VOID = 255


def render_subset_scene(subset: str, index: int, height: int = 192, width: int = 384) -> Scene:
    """Scene of a BRAVO-like subset.

    Parameters
    ----------
    subset
        A key of :data:`FIRST_SEED`; "devobjs" holds objects for development, "newobjs" only kinds that are not there.
    index
        Number of the scene, from 0.
    height, width
        Size in pixels.

    Returns
    -------
    Scene
        With ``invalid`` set where the subset has unknown objects, or pixels drowned by a flare.
    """
    seed = FIRST_SEED[subset] + index
    placed: list[str] = []
    extra = None
    if subset in OBJECTS:
        extra = place_objects(OBJECTS[subset], seed, placed)
    canvas = paint_scene(seed, height, width, extra)
    color, label, depth = shrink(canvas)
    rng = canvas.rng
    invalid = label == UNKNOWN
    label = np.where(invalid, VOID, label).astype(np.uint8)
    # Objects keep a label: the benchmark scores them as invalid pixels, so a void label would hide them.
    label[invalid] = 0
    image = photograph(color, depth, rng).astype(np.float32)
    if subset == "ACDCfog":
        image = weather.fog(image, depth, rng)
    elif subset == "ACDCnight":
        image = weather.night(image, depth, label, rng)
    elif subset == "ACDCrain":
        image = weather.rain(image, depth, label, rng)
    elif subset == "ACDCsnow":
        image = weather.snow(image, depth, label, rng)
    elif subset == "synrain":
        image = weather.lens_drops(image, rng)
    elif subset == "synflare":
        image, invalid = weather.flare(image, rng)
    elif subset == "outofcontext":
        image, label = weather.foreign_background(image, label, rng)
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return Scene(image, label, depth, invalid, tuple(placed))
