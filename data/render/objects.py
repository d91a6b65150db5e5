"""Things that no training scene holds: shapes and textures outside the 19 classes, standing on the ground.

Textures come from noise and stripes, and from photographs that scikit-image ships under CC0 or in the public domain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
import skimage.data

from .canvas import Canvas, noise
from .street import jitter

HELD_OUT_KINDS = ("sofa", "deer", "barrel")
"""Kinds that occur in the test subsets only: no choice may be tuned on them."""

DEVELOPMENT_KINDS = ("cone", "box", "sphere", "dog", "cow", "chair", "tyre", "suitcase", "rock")
KINDS = DEVELOPMENT_KINDS + HELD_OUT_KINDS
PHOTOGRAPHS = ("brick", "grass", "gravel", "coffee", "cat")
"""Names in ``skimage.data``: CC0 or public domain, shipped inside the package."""

UNKNOWN = 200
"""Mark of unknown objects in the canvas' label map; it never leaves the renderer."""

Polygon = list[tuple[float, float]]


@functools.cache
def photograph_texture(name: str) -> np.ndarray:
    """Photograph (h, w, 3) uint8, at most 256 pixels wide."""
    picture = getattr(skimage.data, name)()
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, -1)
    scale = 256 / picture.shape[1]
    return cv2.resize(picture[..., :3], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def outline(kind: str, rng: np.random.Generator) -> tuple[list[Polygon], float, tuple[float, float]]:
    """Polygons in units of the object's height, the width of the whole, and usual heights in metres."""

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> Polygon:
        t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        return list(zip(cx + rx * np.cos(t), cy + ry * np.sin(t), strict=True))

    def rectangle(x0: float, y0: float, x1: float, y1: float) -> Polygon:
        return [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]

    def animal(body: float, neck: float, legs: float, horns: bool) -> list[Polygon]:
        top = legs + body
        parts = [rectangle(x, 0, x + 0.09, legs + 0.1) for x in (-0.55, -0.4, 0.3, 0.45)]
        parts += [ellipse(0, legs + body / 2, 0.62, body / 2 + 0.02)]
        parts += [[(0.4, top - 0.12), (0.58, top - 0.2), (0.82, top + neck), (0.66, top + neck + 0.06)]]
        parts += [
            ellipse(0.84, top + neck, 0.17, 0.1),
            [(-0.6, top - 0.1), (-0.78, legs), (-0.7, legs), (-0.54, top - 0.18)],
        ]
        if horns:
            parts += [
                [(0.72, top + neck), (0.62, 1.0), (0.66, 1.0), (0.78, top + neck)],
                [(0.8, top + neck), (0.86, 1.0), (0.9, 1.0), (0.85, top + neck)],
            ]
        return parts

    if kind == "cone":
        return [[(-0.32, 0), (-0.06, 1), (0.06, 1), (0.32, 0)], rectangle(-0.42, 0, 0.42, 0.07)], 0.84, (0.6, 1.1)
    if kind == "box":
        return (
            [
                rectangle(-0.55, 0, 0.45, 0.85),
                [(-0.55, 0.85), (-0.4, 1), (0.6, 1), (0.45, 0.85)],
                [(0.45, 0), (0.6, 0.15), (0.6, 1), (0.45, 0.85)],
            ],
            1.15,
            (0.5, 1.3),
        )
    if kind == "sphere":
        return [ellipse(0, 0.5, 0.5, 0.5)], 1.0, (0.6, 1.5)
    if kind == "dog":
        return animal(0.36, 0.12, 0.4, False), 1.7, (0.55, 0.85)
    if kind == "cow":
        return animal(0.5, 0.04, 0.36, True), 1.7, (1.3, 1.6)
    if kind == "deer":
        return animal(0.3, 0.2, 0.42, True), 1.7, (1.3, 1.7)
    if kind == "chair":
        return (
            [
                rectangle(-0.28, 0.42, 0.28, 0.52),
                rectangle(-0.28, 0.5, -0.18, 1),
                rectangle(-0.28, 0.72, 0.1, 0.95),
                rectangle(-0.28, 0, -0.2, 0.45),
                rectangle(0.2, 0, 0.28, 0.45),
            ],
            0.56,
            (0.9, 1.2),
        )
    if kind == "sofa":
        return (
            [
                rectangle(-1.1, 0.08, 1.1, 0.5),
                rectangle(-1.0, 0.4, 1.0, 1.0),
                ellipse(-1.1, 0.38, 0.2, 0.32),
                ellipse(1.1, 0.38, 0.2, 0.32),
            ],
            2.6,
            (0.8, 1.1),
        )
    if kind == "barrel":
        return (
            [
                [(-0.3, 0.03), (-0.36, 0.5), (-0.3, 0.97), (0.3, 0.97), (0.36, 0.5), (0.3, 0.03)],
                ellipse(0, 0.95, 0.3, 0.06),
                ellipse(0, 0.05, 0.3, 0.05),
            ],
            0.72,
            (0.8, 1.2),
        )
    if kind == "tyre":
        return [ellipse(0, 0.5, 0.5, 0.5)], 1.0, (0.6, 0.9)
    if kind == "suitcase":
        return (
            [
                rectangle(-0.36, 0.05, 0.36, 0.75),
                rectangle(-0.12, 0.75, -0.07, 1.0),
                rectangle(0.07, 0.75, 0.12, 1.0),
                rectangle(-0.12, 0.95, 0.12, 1.0),
            ],
            0.72,
            (0.7, 1.1),
        )
    t = np.sort(rng.uniform(0, 2 * np.pi, 11))  # rock: a rough lump
    r = rng.uniform(0.75, 1.0, 11)
    return (
        [[(0.75 * a * np.cos(b), max(0.5 + 0.5 * a * np.sin(b), 0)) for a, b in zip(r, t, strict=True)]],
        1.4,
        (0.5, 1.2),
    )


def surface(kind: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Texture (height, width, 3) float32 of an object."""
    yy = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    xx = np.linspace(0, 1, width, dtype=np.float32)[None]
    if rng.random() < 0.3 and kind not in ("cone", "tyre"):
        photo = photograph_texture(PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))])
        out = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    else:
        base = jitter(rng, rng.uniform(30, 225, 3), 10).astype(np.float32)
        other = jitter(rng, rng.uniform(30, 225, 3), 10).astype(np.float32)
        if kind == "cone":
            base, other, pattern = (
                np.float32((235, 90, 25)),
                np.float32((240, 240, 238)),
                np.broadcast_to((yy * 4) % 1 > 0.6, (height, width)),
            )
        elif kind == "tyre":
            base, other = np.float32((30, 30, 32)), np.float32((165, 165, 168))
            pattern = ((xx - 0.5) ** 2 + (yy - 0.5) ** 2) < 0.055
        elif kind in ("dog", "cow", "deer"):
            base, other = (
                np.float32(c)
                for c in (
                    ((120, 80, 50), (70, 48, 35)),
                    ((240, 238, 230), (35, 30, 28)),
                    ((165, 110, 65), (120, 78, 45)),
                )[("dog", "cow", "deer").index(kind)]
            )
            pattern = noise(rng, height, width, max(height / 3.5, 3)) > (0.35 if kind == "cow" else 1.0)
        else:
            style = rng.integers(4)
            if style == 0:
                pattern = np.broadcast_to((yy * rng.integers(3, 7)) % 1 > 0.5, (height, width))
            elif style == 1:
                pattern = ((xx * 5).astype(int) + (yy * 5).astype(int)) % 2 == 0
            elif style == 2:
                pattern = noise(rng, height, width, max(width / 5, 3)) > 0.2
            else:
                pattern = np.zeros((height, width), bool)
        out = np.where(pattern[..., None], other, base)
    grain = noise(rng, height, width, 3)[..., None] * 6
    shading = 1.12 - 0.45 * np.abs(xx - rng.uniform(0.25, 0.6)) - 0.18 * yy
    return np.clip(out * shading[..., None] + grain, 0, 255)


def paint_object(canvas: Canvas, kind: str, x: float, z: float, seed: int) -> None:
    """Stand an unknown object on the ground; its pixels are marked :data:`UNKNOWN`."""
    rng = np.random.default_rng(seed)
    polygons, wide, heights = outline(kind, rng)
    column, foot = canvas.camera.project(x, 0, z)
    unit = canvas.camera.size(rng.uniform(*heights), z)
    way = rng.choice([-1, 1])
    canvas.shade(column, foot, unit * wide * 0.55, unit * 0.14 + 1, 0.6)
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    for polygon in polygons:
        corners = np.array([(column + way * u * unit, foot - v * unit) for u, v in polygon])
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) < 4 or len(columns) < 4:
        return
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    texture = surface(kind, rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1, rng)
    chosen = mask[window] > 0
    canvas.color[window][chosen] = texture[chosen].astype(np.uint8)
    canvas.label[window][chosen] = UNKNOWN
    canvas.depth[window][chosen] = z


def place_objects(kinds: tuple[str, ...], seed: int, placed: list[str]) -> Callable:
    """Hook for ``paint_scene``: one to three objects on road and sidewalk, mostly on the road ahead."""

    def extra(canvas: Canvas, plan: dict) -> list:
        rng = np.random.default_rng((seed, 7))
        items = []
        for _ in range(rng.integers(1, 4)):
            kind = kinds[rng.integers(len(kinds))]
            z = 4.5 * np.exp(rng.uniform(0, 1.6))
            reach = plan["half"] if rng.random() < 0.8 else plan["half"] + min(plan["walk"].values())
            x = rng.uniform(-0.9, 0.9) * min(reach, 0.75 * z)
            own = int(rng.integers(2**31))
            placed.append(kind)
            items.append((z, lambda k=kind, x=x, z=z, s=own: paint_object(canvas, k, x, z, s)))
        return items

    return extra
