"""Persons on foot, and riders on bicycles and motorcycles; both two-wheelers also stand parked."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .street import jitter

PERSON, RIDER, MOTORCYCLE, BICYCLE = 11, 12, 17, 18
CLOTHES = [
    (170, 40, 45),
    (40, 65, 130),
    (230, 225, 215),
    (35, 35, 40),
    (60, 120, 75),
    (225, 175, 50),
    (120, 85, 150),
    (200, 105, 60),
]
SKIN = [(235, 195, 165), (200, 150, 115), (130, 90, 65), (90, 62, 48)]


def _clothes(rng: np.random.Generator) -> np.ndarray:
    return jitter(rng, CLOTHES[rng.integers(len(CLOTHES))], 12)


def paint_person(canvas: Canvas, x: float, z: float) -> None:
    """Walking or standing person, 1.5 to 1.95 m."""
    rng, p = canvas.rng, canvas.camera.project
    tall = rng.uniform(1.5, 1.95)
    unit = canvas.camera.size(tall / 1.8, z)
    column, foot = p(x, 0, z)
    shirt, trousers, skin = _clothes(rng), _clothes(rng) * 0.75, jitter(rng, SKIN[rng.integers(4)], 6)
    stride, swing = rng.uniform(0, 0.3), rng.uniform(0.05, 0.28)
    canvas.shade(column, foot, unit * 0.45, unit * 0.12 + 1, 0.5)

    def at(dx: float, y: float) -> tuple[float, float]:
        return column + dx * unit, foot - y * unit

    for way in (-1, 1):
        canvas.bar(
            at(way * 0.08, 0.9),
            at(way * (0.09 + stride), 0.02),
            unit * 0.19,
            trousers * (1 if way > 0 else 0.85),
            PERSON,
            z,
        )
        canvas.bar(at(way * 0.2, 1.42), at(way * (0.26 + swing * 0.6), 0.88), unit * 0.13, shirt * 0.85, PERSON, z)
        canvas.disc(*at(way * (0.26 + swing * 0.6), 0.86), unit * 0.06, unit * 0.06, skin, PERSON, z)
        canvas.bar(
            at(way * (0.09 + stride), 0.05), at(way * (0.09 + stride) + 0.12, 0.03), unit * 0.1, (28, 26, 26), PERSON, z
        )
    canvas.fill([at(-0.23, 1.46), at(0.23, 1.46), at(0.19, 0.82), at(-0.19, 0.82)], shirt, PERSON, z)
    canvas.fill([at(0.06, 1.46), at(0.23, 1.46), at(0.19, 0.82), at(0.08, 0.82)], shirt * 0.82, PERSON, z)
    canvas.bar(at(0, 1.44), at(0, 1.56), unit * 0.1, skin, PERSON, z)
    canvas.disc(*at(0, 1.66), unit * 0.115, unit * 0.145, skin, PERSON, z)
    hair = [(40, 30, 25), (95, 65, 40), (190, 160, 100), (110, 110, 112)][rng.integers(4)]
    canvas.disc(*at(0, 1.73), unit * 0.118, unit * 0.085, hair, PERSON, z)
    if rng.random() < 0.35:
        canvas.fill([at(-0.33, 1.4), at(-0.17, 1.42), at(-0.17, 0.98), at(-0.33, 1.0)], _clothes(rng) * 0.7, PERSON, z)


def paint_bicycle(canvas: Canvas, x: float, z: float, ridden: bool, turn: float = 1.0) -> None:
    """Bicycle; ``turn``: 1 seen from its side, towards 0 seen from an end; ridden ones carry a rider."""
    rng = canvas.rng
    unit = canvas.camera.size(1, z)
    column, foot = canvas.camera.project(x, 0, z)
    frame = jitter(
        rng, [(190, 30, 30), (30, 80, 150), (40, 40, 42), (40, 130, 80), (225, 190, 40)][rng.integers(5)], 10
    )
    way = rng.choice([-1, 1])
    canvas.shade(column, foot, unit * (0.3 + 0.6 * turn), unit * 0.12 + 1, 0.45)

    def at(dx: float, y: float) -> tuple[float, float]:
        return column + way * turn * dx * unit, foot - y * unit

    thick = max(2.0, unit * 0.055)
    for dx in (-0.52, 0.52):
        center = at(dx, 0.34)
        outer = (max(unit * 0.34 * turn, unit * 0.06), unit * 0.34)
        canvas.disc(*center, *outer, (26, 26, 28), BICYCLE, z)
        if outer[0] > unit * 0.15:
            canvas.disc(*center, outer[0] - thick, outer[1] - thick, (118, 116, 114), BICYCLE, z)
            for a in np.arange(0, np.pi, np.pi / 4):
                d = np.array([np.cos(a) * (outer[0] - thick), np.sin(a) * (outer[1] - thick)])
                canvas.bar(np.array(center) - d, np.array(center) + d, 1.5, (60, 60, 62), BICYCLE, z)
    joints = [
        ((-0.52, 0.34), (-0.18, 0.86)),
        ((-0.18, 0.86), (0.4, 0.9)),
        ((-0.05, 0.32), (0.4, 0.9)),
        ((-0.52, 0.34), (-0.05, 0.32)),
        ((-0.05, 0.32), (-0.2, 0.95)),
        ((0.4, 1.02), (0.52, 0.34)),
    ]
    for a, b in joints:
        canvas.bar(at(*a), at(*b), thick * 1.4, frame, BICYCLE, z)
    canvas.bar(at(-0.34, 0.97), at(-0.08, 0.97), thick * 1.8, (30, 30, 30), BICYCLE, z)
    canvas.bar(at(0.3, 1.05), at(0.48, 1.05), thick * 1.5, (40, 40, 40), BICYCLE, z)
    if ridden:
        _paint_rider(
            canvas, at, unit, z, seat=(-0.2, 0.98), hands=(0.4, 1.06), foot_at=(-0.02, 0.2), helmet=rng.random() < 0.6
        )


def paint_motorcycle(canvas: Canvas, x: float, z: float, ridden: bool, turn: float = 1.0) -> None:
    """Motorcycle or scooter: fat wheels, tank, fairing and lamp."""
    rng = canvas.rng
    unit = canvas.camera.size(1.0, z)
    column, foot = canvas.camera.project(x, 0, z)
    body = jitter(rng, [(25, 60, 190), (200, 30, 30), (30, 30, 34), (40, 140, 60), (240, 130, 20)][rng.integers(5)], 10)
    way = rng.choice([-1, 1])
    canvas.shade(column, foot, unit * (0.4 + 0.7 * turn), unit * 0.15 + 1, 0.5)

    def at(dx: float, y: float) -> tuple[float, float]:
        return column + way * turn * dx * unit, foot - y * unit

    for dx in (-0.7, 0.7):
        rim = (max(unit * 0.34 * turn, unit * 0.1), unit * 0.34)
        canvas.disc(*at(dx, 0.34), *rim, (20, 20, 22), MOTORCYCLE, z)
        canvas.disc(*at(dx, 0.34), rim[0] * 0.45, rim[1] * 0.45, (140, 140, 145), MOTORCYCLE, z)
    canvas.fill(
        [at(-0.55, 0.35), at(-0.35, 0.72), at(0.45, 0.75), at(0.5, 0.4), at(0.1, 0.2), at(-0.3, 0.22)],
        (58, 58, 62),
        MOTORCYCLE,
        z,
    )
    canvas.fill([at(-0.15, 0.7), at(0.0, 0.98), at(0.42, 0.95), at(0.5, 0.6)], body, MOTORCYCLE, z)
    canvas.fill([at(-0.95, 0.82), at(-0.85, 0.9), at(-0.1, 0.8), at(-0.2, 0.66)], (32, 30, 30), MOTORCYCLE, z)
    canvas.bar(at(-0.92, 0.86), at(-0.6, 0.62), unit * 0.14, body, MOTORCYCLE, z)
    canvas.bar(at(0.42, 1.05), at(0.7, 0.36), max(2.0, unit * 0.09), (90, 90, 95), MOTORCYCLE, z)
    canvas.bar(at(-0.5, 0.28), at(-0.95, 0.36), unit * 0.1, (170, 170, 172), MOTORCYCLE, z)
    canvas.disc(*at(0.55, 0.88), unit * 0.13, unit * 0.13, (250, 248, 220), MOTORCYCLE, z)
    canvas.fill([at(0.42, 0.8), at(0.4, 1.2), at(0.58, 1.0), at(0.6, 0.8)], body * 0.8, MOTORCYCLE, z)
    if turn < 0.5:  # from an end the machine would vanish: give it the breadth of fairing and handlebar
        canvas.fill(
            [
                at(0, 0.2) + np.array([-0.2 * unit, 0]),
                at(0, 0.95) + np.array([-0.26 * unit, 0]),
                at(0, 0.95) + np.array([0.26 * unit, 0]),
                at(0, 0.2) + np.array([0.2 * unit, 0]),
            ],
            body,
            MOTORCYCLE,
            z,
        )
        canvas.disc(*at(0, 0.82), unit * 0.12, unit * 0.12, (250, 248, 215), MOTORCYCLE, z)
        canvas.disc(*at(0, 0.3), unit * 0.09, unit * 0.3, (20, 20, 22), MOTORCYCLE, z)
    if ridden:
        _paint_rider(canvas, at, unit, z, seat=(-0.35, 0.85), hands=(0.42, 1.05), foot_at=(0.0, 0.35), helmet=True)


def _paint_rider(canvas: Canvas, at, unit: float, z: float, seat, hands, foot_at, helmet: bool) -> None:
    rng = canvas.rng
    jacket, trousers, skin = _clothes(rng), _clothes(rng) * 0.7, jitter(rng, SKIN[rng.integers(4)], 6)
    shoulder = (seat[0] + 0.22, seat[1] + 0.6)
    knee = ((seat[0] + foot_at[0]) / 2 + 0.28, (seat[1] + foot_at[1]) / 2 + 0.08)
    broad = np.array([unit * 0.16, 0])
    canvas.bar(at(*seat), at(*knee), unit * 0.19, trousers, RIDER, z)
    canvas.bar(at(*knee), at(*foot_at), unit * 0.15, trousers * 0.9, RIDER, z)
    a, b = np.array(at(*shoulder)), np.array(at(*seat))
    canvas.fill([a - broad, a + broad, b + broad, b - broad], jacket, RIDER, z)
    canvas.bar(a, b, unit * 0.32, jacket, RIDER, z)
    canvas.bar(a, at(*hands), unit * 0.13, jacket * 0.8, RIDER, z)
    head = at(shoulder[0] + 0.1, shoulder[1] + 0.24)
    canvas.disc(*head, unit * 0.14, unit * 0.16, skin, RIDER, z)
    if helmet:
        canvas.disc(head[0], head[1] - unit * 0.05, unit * 0.16, unit * 0.14, _clothes(rng), RIDER, z)
