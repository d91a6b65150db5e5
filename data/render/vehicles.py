"""Cars, trucks, buses and trains as boxes with details; each seen from behind, from the front or from the side."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .street import jitter

CAR, TRUCK, BUS, TRAIN = 13, 14, 15, 16
CAR_COLORS = [
    (200, 40, 42),
    (40, 80, 160),
    (225, 225, 225),
    (60, 62, 66),
    (150, 155, 160),
    (210, 170, 60),
    (70, 120, 90),
]
GLASS = (48, 58, 70)


def _shadow(canvas: Canvas, x: float, z: float, width: float) -> None:
    column, row = canvas.camera.project(x, 0, z)
    canvas.shade(column, row, canvas.camera.size(width * 0.62, z), canvas.camera.size(0.35, z) + 2, 0.6)


def _box(canvas: Canvas, x0, x1, z0, z1, y0, y1, color, label) -> None:
    """Box along the street: its visible side first, then its near end."""
    if x0 > 0:
        canvas.quad_x(x0, z0, z1, y0, y1, canvas.lit(color, -1), label)
    elif x1 < 0:
        canvas.quad_x(x1, z0, z1, y0, y1, canvas.lit(color, 1), label)
    if y1 < canvas.camera.height:
        p = canvas.camera.project
        canvas.fill(
            [p(x0, y1, z0), p(x1, y1, z0), p(x1, y1, z1), p(x0, y1, z1)],
            np.clip(np.array(color) * 1.12, 0, 255),
            label,
            z0,
        )
    canvas.quad_z(z0, x0, x1, y0, y1, canvas.lit(color, 0), label)


def _side_of(x0: float, x1: float) -> float | None:
    """X of the side that the camera sees, if any."""
    return x0 if x0 > 0 else x1 if x1 < 0 else None


def _wheels_along(canvas: Canvas, x0, x1, zs, radius, label) -> None:
    x = _side_of(x0, x1)
    for z in zs if x is not None else ():
        column, row = canvas.camera.project(x, radius, z)
        canvas.disc(
            column, row, canvas.camera.size(radius * 0.5, z) + 1, canvas.camera.size(radius, z), (24, 24, 26), label, z
        )


def paint_car(canvas: Canvas, x: float, z: float, behind: bool) -> None:
    """Car along the street; ``behind``: seen from behind, else from the front."""
    rng = canvas.rng
    color = jitter(rng, CAR_COLORS[rng.integers(len(CAR_COLORS))], 10)
    width, length, roof = rng.uniform(1.65, 1.9), rng.uniform(3.6, 4.6), rng.uniform(1.38, 1.75)
    x0, x1, z1 = x - width / 2, x + width / 2, z + length
    _shadow(canvas, x, z, width)
    belt = roof * 0.58
    inset = 0.14
    for tyre in (x0 + 0.05, x1 - 0.3):
        canvas.quad_z(z + 0.02, tyre, tyre + 0.25, 0, 0.4, (22, 22, 24), CAR)
    _box(canvas, x0, x1, z, z1, 0.22, belt, color, CAR)
    _wheels_along(canvas, x0, x1, (z + 0.8, z1 - 0.8), 0.33, CAR)
    cabin = (x0 + inset, x1 - inset, z + (0.35 if behind else 0.9), z1 - (0.9 if behind else 0.35))
    _box(canvas, *cabin, belt, roof, color * 0.92, CAR)
    side = _side_of(cabin[0], cabin[1])
    if side is not None:
        canvas.quad_x(side, cabin[2] + 0.25, cabin[3] - 0.25, belt + 0.05, roof - 0.1, GLASS, CAR)
    canvas.quad_z(
        cabin[2], cabin[0] + 0.1, cabin[1] - 0.1, belt + 0.04, roof - 0.1, np.array(GLASS) * rng.uniform(0.8, 1.6), CAR
    )
    lamp = (210, 30, 30) if behind else (250, 250, 225)
    for a in (x0 + 0.06, x1 - 0.38):
        canvas.quad_z(z, a, a + 0.32, belt - 0.28, belt - 0.1, lamp, CAR)
    canvas.quad_z(z, x0, x1, 0.22, 0.36, color * 0.45, CAR)
    if not behind:
        canvas.quad_z(z, x - 0.4, x + 0.4, belt - 0.28, belt - 0.12, (38, 38, 40), CAR)
    canvas.quad_z(z, x - 0.26, x + 0.26, 0.4, 0.52, (235, 235, 225), CAR)


def paint_crossing_car(canvas: Canvas, x: float, z: float) -> None:
    """Car across the street, seen from its side."""
    rng, p = canvas.rng, canvas.camera.project
    color = jitter(rng, CAR_COLORS[rng.integers(len(CAR_COLORS))], 10)
    length, roof, way = rng.uniform(3.7, 4.5), rng.uniform(1.38, 1.65), rng.choice([-1, 1])
    _shadow(canvas, x, z, length * 1.05)

    def outline(points):
        return [p(x + way * (u - 0.5) * length, v, z) for u, v in points]

    belt = 0.9
    canvas.fill(outline([(0, 0.25), (0, 0.78), (0.2, belt), (0.98, belt), (1, 0.6), (1, 0.25)]), color, CAR, z)
    canvas.fill(outline([(0.2, belt), (0.36, roof), (0.8, roof), (0.96, belt)]), color * 0.95, CAR, z)
    canvas.fill(outline([(0.26, belt), (0.38, roof - 0.1), (0.56, roof - 0.1), (0.56, belt)]), GLASS, CAR, z)
    canvas.fill(outline([(0.6, belt), (0.6, roof - 0.1), (0.78, roof - 0.1), (0.9, belt)]), GLASS, CAR, z)
    canvas.fill(outline([(0, 0.55), (0, 0.72), (0.05, 0.72), (0.05, 0.55)]), (250, 250, 220), CAR, z)
    for u in (0.2, 0.8):
        column, row = p(x + way * (u - 0.5) * length, 0.32, z)
        radius = canvas.camera.size(0.33, z)
        canvas.disc(column, row, radius, radius, (22, 22, 24), CAR, z)
        canvas.disc(column, row, radius * 0.5, radius * 0.5, (150, 150, 152), CAR, z)


def paint_truck(canvas: Canvas, x: float, z: float, behind: bool) -> None:
    """Lorry with a plain cargo box; from the front a cab with a large windscreen."""
    rng = canvas.rng
    cargo = jitter(rng, [(215, 215, 210), (95, 110, 80), (165, 120, 80), (70, 95, 140)][rng.integers(4)], 10)
    cab = jitter(rng, [(190, 50, 40), (225, 225, 220), (60, 95, 150), (220, 165, 50)][rng.integers(4)], 10)
    width, height, length = 2.4, rng.uniform(3.0, 3.7), rng.uniform(6, 8.5)
    x0, x1, z1 = x - width / 2, x + width / 2, z + length
    _shadow(canvas, x, z, width)
    for tyre in (x0 + 0.08, x1 - 0.58):
        canvas.quad_z(z + 0.02, tyre, tyre + 0.5, 0, 0.9, (20, 20, 22), TRUCK)
    if behind:
        _box(canvas, x0, x1, z, z1 - 2, 0.85, height, cargo, TRUCK)
        canvas.quad_z(z, x - 0.03, x + 0.03, 0.95, height - 0.1, cargo * 0.6, TRUCK)
        canvas.quad_z(z, x0, x1, 0.55, 0.85, (55, 55, 58), TRUCK)
        for a in (x0 + 0.05, x1 - 0.4):
            canvas.quad_z(z, a, a + 0.35, 0.6, 0.8, (215, 40, 30), TRUCK)
    else:
        _box(canvas, x0, x1, z + 2.2, z1, 0.85, height, cargo, TRUCK)
        _box(canvas, x0 + 0.05, x1 - 0.05, z, z + 2.0, 0.45, height * 0.84, cab, TRUCK)
        canvas.quad_z(z, x0 + 0.2, x1 - 0.2, height * 0.5, height * 0.76, GLASS, TRUCK)
        canvas.quad_z(z, x0 + 0.45, x1 - 0.45, 0.75, height * 0.42, (45, 45, 48), TRUCK)
        for a in (x0 + 0.12, x1 - 0.5):
            canvas.quad_z(z, a, a + 0.38, 0.55, 0.78, (250, 250, 225), TRUCK)
    side = _side_of(x0, x1)
    if side is not None:
        for y in (0.95, height - 0.15):
            canvas.quad_x(side, z if behind else z + 2.2, z1 - (2 if behind else 0), y, y + 0.12, cargo * 0.65, TRUCK)
    _wheels_along(canvas, x0, x1, (z + 1.1, z1 - 2.6, z1 - 1.2), 0.5, TRUCK)


def paint_bus(canvas: Canvas, x: float, z: float, behind: bool) -> None:
    """City bus: one strong colour, a band of windows along its whole length, a display."""
    rng = canvas.rng
    color = jitter(rng, [(200, 35, 35), (235, 185, 30), (30, 95, 175), (40, 150, 85)][rng.integers(4)], 10)
    width, height, length = 2.5, 3.0, rng.uniform(9.5, 12)
    x0, x1, z1 = x - width / 2, x + width / 2, z + length
    _shadow(canvas, x, z, width)
    _box(canvas, x0, x1, z, z1, 0.3, height, color, BUS)
    side = _side_of(x0, x1)
    if side is not None:
        for a in np.arange(z + 0.3, z1 - 0.8, 1.35):
            canvas.quad_x(side, a, a + 1.15, 1.35, 2.45, GLASS, BUS)
        canvas.quad_x(side, z, z1, 0.3, 0.6, color * 0.5, BUS)
    canvas.quad_z(z, x0 + 0.15, x1 - 0.15, 1.25 if not behind else 1.6, 2.4, np.array(GLASS) * 1.1, BUS)
    canvas.quad_z(z, x - 0.75, x + 0.75, 2.5, 2.85, (25, 25, 22), BUS)
    for a in np.arange(x - 0.6, x + 0.5, 0.3):
        canvas.quad_z(z, a, a + 0.17, 2.58, 2.78, (250, 175, 40), BUS)
    lamp = (215, 35, 30) if behind else (250, 250, 225)
    for a in (x0 + 0.08, x1 - 0.43):
        canvas.quad_z(z, a, a + 0.35, 0.65, 0.9, lamp, BUS)
    canvas.quad_z(z, x0, x1, 0.3, 0.5, (40, 40, 42), BUS)
    _wheels_along(canvas, x0, x1, (z + 2.2, z1 - 2.6), 0.5, BUS)


def paint_train(canvas: Canvas, x: float, z: float) -> None:
    """Tram on its rails: white over a dark stripe, a rounded dark front, a current collector, three cars long."""
    rng = canvas.rng
    stripe = jitter(rng, [(150, 30, 95), (25, 120, 125), (95, 40, 140)][rng.integers(3)], 10)
    white = np.array((232, 230, 222))
    x0, x1, height, length = x - 1.2, x + 1.2, 3.5, rng.uniform(22, 32)
    _shadow(canvas, x, z, 2.4)
    _box(canvas, x0, x1, z, z + length, 0.25, height, white, TRAIN)
    side = _side_of(x0, x1)
    if side is not None:
        canvas.quad_x(side, z, z + length, 0.25, 1.25, stripe, TRAIN)
        canvas.quad_x(side, z, z + length, 1.55, 2.75, (36, 40, 50), TRAIN)
        for a in np.arange(z + length / 3, z + length, length / 3):
            canvas.quad_x(side, a, a + 0.6, 0.25, height, (70, 70, 74), TRAIN)
    p = canvas.camera.project
    nose = [(x0, 0.9), (x0 + 0.25, 3.1), (x1 - 0.25, 3.1), (x1, 0.9)]
    canvas.quad_z(z, x0, x1, 0.25, 1.1, stripe, TRAIN)
    canvas.fill([p(u, v, z) for u, v in nose], (30, 34, 44), TRAIN, z)
    canvas.quad_z(z, x - 0.5, x + 0.5, 3.15, 3.4, (240, 235, 170), TRAIN)
    for a in (x0 + 0.15, x1 - 0.4):
        canvas.quad_z(z, a, a + 0.25, 0.6, 0.82, (255, 255, 235), TRAIN)
    top = p(x, height, z + 3)
    for dx in (-0.5, 0.5):
        canvas.bar(
            top, p(x + dx, height + 1.1, z + 3.5), max(2.0, canvas.camera.size(0.07, z)), (60, 60, 62), TRAIN, z + 3
        )
