"""One street scene from one seed: plan the street, paint it back to front, then take the photograph."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image

from . import people, street, vehicles
from .canvas import SUPERSAMPLING, Camera, Canvas, noise

Paint = Callable[[], None]


@dataclass
class Scene:
    """A rendered scene.

    Attributes
    ----------
    image
        (H, W, 3) uint8 RGB.
    label
        (H, W) uint8, train ids 0..18, 255 void.
    depth
        (H, W) float32, metres.
    invalid
        (H, W) bool: pixels of unknown objects or otherwise out of distribution.
    kinds
        Kinds of the unknown objects.
    """

    image: np.ndarray
    label: np.ndarray
    depth: np.ndarray
    invalid: np.ndarray
    kinds: tuple[str, ...] = field(default=())


def plan_street(rng: np.random.Generator) -> dict:
    """Widths, lanes, rails and crossing of the street, in metres."""
    half = rng.uniform(3.4, 6.5)
    return {
        "half": half,
        "walk": {-1: rng.uniform(1.8, 3.8), 1: rng.uniform(1.8, 3.8)},
        "lines": [0.0] if half < 5 else [-half / 3, half / 3],
        "rails": rng.uniform(-0.5, 0.5) * half if rng.random() < 0.32 else None,
        "zebra": rng.uniform(6, 22) if rng.random() < 0.3 else None,
    }


def make_canvas(rng: np.random.Generator, height: int, width: int) -> Canvas:
    """Empty canvas with a camera of random height, pitch and field of view."""
    tall, wide = height * SUPERSAMPLING, width * SUPERSAMPLING
    camera = Camera(
        focal=wide / 2 / np.tan(np.radians(rng.uniform(27, 34))),
        center=wide / 2 + rng.normal(0, 0.05 * wide),
        horizon=tall * rng.uniform(0.36, 0.48),
        height=rng.uniform(1.25, 1.75),
        curvature=rng.normal(0, 0.0012),
    )
    return Canvas(camera, tall, wide, rng, light=rng.uniform(-1, 1))


def roadside(canvas: Canvas, plan: dict) -> list[tuple[float, Paint]]:
    """What stands along both sides: (distance, how to paint it)."""
    rng, items = canvas.rng, []
    for side in (-1, 1):
        edge = side * (plan["half"] + plan["walk"][side])
        z = rng.uniform(1.5, 4)
        while z < 85:
            length = rng.uniform(5, 14)
            end = z + length
            kind = rng.choice(5, p=[0.40, 0.17, 0.17, 0.13, 0.13])
            if kind == 0:
                x = edge + side * rng.uniform(0, 0.8)
                items.append((z, lambda s=side, x=x, a=z, b=end: street.paint_building(canvas, s, x, a, b)))
            else:
                if kind == 1:
                    items.append((z, lambda s=side, x=edge, a=z, b=end: street.paint_wall(canvas, s, x, a, b)))
                elif kind == 2:
                    items.append((z, lambda x=edge, a=z, b=end: street.paint_fence(canvas, x, a, b)))
                elif kind == 3:
                    x = edge + side * 1.0
                    items.append((z, lambda x=x, a=z, b=end: street.paint_hedge(canvas, x, a, b)))
                for t in np.arange(z + 1, end, rng.uniform(2.5, 5)):
                    x, tall = edge + side * rng.uniform(2.5, 8), rng.uniform(4, 9)
                    items.append((t, lambda x=x, t=t, h=tall: street.paint_tree(canvas, x, t, h)))
            z = end
        for z in np.arange(rng.uniform(5, 10), 55, rng.uniform(7, 13)):  # street furniture along the kerb
            x = side * (plan["half"] + 0.45)
            what = rng.choice(5, p=[0.27, 0.27, 0.26, 0.12, 0.08])
            arm = -side * rng.uniform(1.2, 2.8)
            if what == 0:
                tall = rng.uniform(5, 7.5)
                items.append((z, lambda x=x, z=z, h=tall, a=arm: street.paint_pole(canvas, x, z, h, a)))
            elif what == 1:
                items.append((z, lambda x=x, z=z: _sign_post(canvas, x, z)))
            elif what == 2:
                items.append((z, lambda x=x, z=z, a=arm: _light_post(canvas, x, z, a)))
            elif what == 3:
                tall = rng.uniform(3.5, 6)
                items.append((z, lambda x=x, z=z, h=tall: street.paint_tree(canvas, x, z, h)))
            else:
                items.append((z, lambda x=x, z=z: street.paint_pole(canvas, x, z, 1.0)))
    return items


def _sign_post(canvas: Canvas, x: float, z: float) -> None:
    street.paint_pole(canvas, x, z, canvas.rng.uniform(2.4, 3.1))
    street.paint_sign(canvas, x, canvas.rng.uniform(2.1, 2.7), z - 0.05)


def _light_post(canvas: Canvas, x: float, z: float, arm: float) -> None:
    if canvas.rng.random() < 0.5:
        street.paint_pole(canvas, x, z, 3.2)
        street.paint_traffic_light(canvas, x, 2.1, z - 0.05)
    else:
        street.paint_pole(canvas, x, z, 5.2, arm)
        street.paint_traffic_light(canvas, x + arm, 4.2, z - 0.05)
        street.paint_traffic_light(canvas, x, 2.2, z - 0.05)


def traffic(canvas: Canvas, plan: dict) -> list[tuple[float, Paint]]:
    """Vehicles, people and two-wheelers: (distance, how to paint it)."""
    rng, items, half = canvas.rng, [], plan["half"]
    taken: list[tuple[float, float, float]] = []

    def free(x: float, z: float, width: float, length: float) -> bool:
        if any(abs(x - a) < width + 0.6 and abs(z - b) < length + 1.0 for a, b, _ in taken):
            return False
        taken.append((x, z, length))
        return True

    if plan["rails"] is not None and rng.random() < 0.8:
        z = rng.uniform(9, 26)
        free(plan["rails"], z + 10, 2.4, 16)
        items.append((z, lambda z=z: vehicles.paint_train(canvas, plan["rails"], z)))
    for _ in range(rng.integers(2, 6)):
        lane = rng.choice([-1, 1])
        x, z = lane * half * rng.uniform(0.3, 0.55), rng.uniform(7, 45)
        kind = rng.choice(4, p=[0.5, 0.2, 0.22, 0.08])
        size = (1.9, 4.5) if kind == 0 else (2.6, 10)
        if kind == 3:
            if free(x, z, 4.4, 2):
                items.append((z, lambda x=x, z=z: vehicles.paint_crossing_car(canvas, x, z)))
        elif free(x, z, *size):
            paint = (vehicles.paint_car, vehicles.paint_truck, vehicles.paint_bus)[kind]
            items.append((z, lambda p=paint, x=x, z=z, b=lane > 0: p(canvas, x, z, b)))
    for side in (-1, 1):  # parked cars
        if half > 4.2 and rng.random() < 0.5:
            for z in np.arange(rng.uniform(5, 14), 50, 6.2):
                x = side * (half - 1.0)
                if rng.random() < 0.6 and free(x, z, 1.9, 4.5):
                    items.append((z, lambda x=x, z=z, b=side > 0: vehicles.paint_car(canvas, x, z, b)))
    for _ in range(rng.integers(3, 9)):
        z = 5 * np.exp(rng.uniform(0, 1.7))
        side = rng.choice([-1, 1])
        crossing = rng.random() < 0.22
        x = rng.uniform(-half, half) if crossing else side * (half + rng.uniform(0.4, plan["walk"][side] - 0.3))
        if free(x, z, 0.5, 0.5):
            items.append((z, lambda x=x, z=z: people.paint_person(canvas, x, z)))
    for paint in (people.paint_bicycle, people.paint_motorcycle):
        for _ in range(rng.integers(1, 4)):
            z = 5 * np.exp(rng.uniform(0, 1.5))
            ridden = rng.random() < 0.62
            side = rng.choice([-1, 1])
            x = rng.uniform(-half, half) * 0.85 if ridden else side * (half + rng.uniform(-0.4, 1.2))
            turn = rng.uniform(0.75, 1) if rng.random() < 0.65 else rng.uniform(0.12, 0.5)
            if free(x, z, 1.4, 1.0):
                items.append((z, lambda p=paint, x=x, z=z, r=ridden, t=turn: p(canvas, x, z, r, t)))
    return items


def photograph(color: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, haze, lens and sensor: (H, W, 3) uint8 of the painted colours to what a camera sees."""
    x = color.astype(np.float32)
    haze = 1 - np.exp(-np.minimum(depth, 300) / rng.uniform(250, 900))
    haze = np.where(depth > 500, 0, haze)[..., None]
    x = x * (1 - haze) + np.float32((205, 212, 220)) * haze
    x *= rng.uniform(0.72, 1.18) * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    x = 255 * np.clip(x / 255, 0, 1) ** np.float32(rng.uniform(0.85, 1.2))
    sigma = rng.uniform(0.25, 0.7)
    x = cv2.GaussianBlur(x, (0, 0), sigma)
    x += rng.standard_normal(x.shape).astype(np.float32) * rng.uniform(1.5, 4.5)
    return np.clip(np.round(x), 0, 255).astype(np.uint8)


def paint_scene(
    seed: int, height: int, width: int, extra: Callable[[Canvas, dict], list[tuple[float, Paint]]] | None = None
) -> Canvas:
    """Canvas of the whole street; ``extra`` may add further things to paint, by distance."""
    rng = np.random.default_rng(seed)
    canvas, plan = make_canvas(rng, height, width), plan_street(rng)
    street.paint_sky(canvas)
    street.paint_skyline(canvas)
    street.paint_ground(canvas, plan)
    items = roadside(canvas, plan) + traffic(canvas, plan)
    if extra is not None:
        items += extra(canvas, plan)
    shadows_of_trees(canvas)
    for _, paint in sorted(items, key=lambda item: -item[0]):
        paint()
    street.leaf_grain(canvas)
    return canvas


def shadows_of_trees(canvas: Canvas) -> None:
    """Large soft shadows on the ground."""
    rng = canvas.rng
    if rng.random() < 0.5:
        top = int(canvas.camera.horizon) + 1
        field = noise(rng, canvas.height, canvas.width, 70)[top:]
        factor = 1 - 0.38 * np.clip(field - 0.4, 0, 1)
        canvas.color[top:] = (canvas.color[top:] * factor[..., None]).astype(np.uint8)


def render_scene(seed: int, height: int = 192, width: int = 384) -> Scene:
    """Ordinary daytime scene of a seed.

    Parameters
    ----------
    seed
        Same seed, same bytes.
    height, width
        Size of the picture in pixels.
    """
    canvas = paint_scene(seed, height, width)
    color, label, depth = street.shrink(canvas)
    image = photograph(color, depth, canvas.rng)
    return Scene(image, label, depth, np.zeros(label.shape, bool))


def encode_jpeg(image: np.ndarray) -> bytes:
    """The JPEG file (quality 92, full colour resolution) in which images ship, and on which networks are trained."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()
