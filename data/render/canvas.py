"""Camera and canvas: world coordinates in metres to a picture with exact labels and depth.

The canvas is twice as large as the picture and drawn back to front (painter's algorithm): every shape goes into colour,
label and depth at once, so that a label is what is seen. X points right, Y up from the ground, Z away from the camera.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

SUPERSAMPLING = 2
FAR = 1000.0
"""Depth of the sky, in metres."""

cv2.setNumThreads(1)


@dataclass
class Camera:
    """Pinhole camera above the road; lengths in metres, pixels of the canvas."""

    focal: float
    center: float
    horizon: float
    height: float
    curvature: float = 0.0

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Column and row of a point; the road bends sideways with the square of the distance."""
        z = max(z, 0.5)
        x = x + self.curvature * z * z
        return self.center + self.focal * x / z, self.horizon + self.focal * (self.height - y) / z

    def size(self, metres: float, z: float) -> float:
        """Length in canvas pixels of something at distance z."""
        return self.focal * metres / max(z, 0.5)


@dataclass
class Canvas:
    """Colour (H, W, 3 uint8), label (H, W uint8) and depth (H, W float32, metres) under one brush."""

    camera: Camera
    height: int
    width: int
    rng: np.random.Generator
    color: np.ndarray = field(init=False)
    label: np.ndarray = field(init=False)
    depth: np.ndarray = field(init=False)
    light: float = 0.0  # from -1 (sun on the left) to 1 (on the right)

    def __post_init__(self) -> None:
        self.color = np.zeros((self.height, self.width, 3), np.uint8)
        self.label = np.full((self.height, self.width), 10, np.uint8)
        self.depth = np.full((self.height, self.width), FAR, np.float32)

    def fill(self, points, color, label: int, z: float) -> None:
        """Filled polygon of canvas points [(column, row), ...]; ``label`` -1 leaves label and depth as they are."""
        limit = 8 * max(self.width, self.height)
        corners = np.round(np.clip(points, -limit, limit)).astype(np.int32)
        cv2.fillPoly(self.color, [corners], paint(color))
        if label >= 0:
            cv2.fillPoly(self.label, [corners], int(label))
            cv2.fillPoly(self.depth, [corners], float(z))

    def disc(self, column: float, row: float, radius_x: float, radius_y: float, color, label: int, z: float) -> None:
        """Filled ellipse."""
        limit = 8 * max(self.width, self.height)
        center = (int(np.clip(round(column), -limit, limit)), int(np.clip(round(row), -limit, limit)))
        axes = (max(1, round(radius_x)), max(1, round(radius_y)))
        cv2.ellipse(self.color, center, axes, 0, 0, 360, paint(color), -1)
        if label >= 0:
            cv2.ellipse(self.label, center, axes, 0, 0, 360, int(label), -1)
            cv2.ellipse(self.depth, center, axes, 0, 0, 360, float(z), -1)

    def bar(self, a, b, width: float, color, label: int, z: float) -> None:
        """Straight bar between two canvas points, ``width`` pixels wide."""
        a, b = np.asarray(a, float), np.asarray(b, float)
        along = b - a
        across = np.array([-along[1], along[0]]) / (np.hypot(*along) + 1e-9) * max(width, 1.0) / 2
        self.fill([a + across, b + across, b - across, a - across], color, label, z)

    def quad_x(self, x: float, z0: float, z1: float, y0: float, y1: float, color, label: int) -> None:
        """Upright face along the street: at X = x, from z0 to z1 and y0 to y1."""
        p = self.camera.project
        self.fill([p(x, y0, z0), p(x, y1, z0), p(x, y1, z1), p(x, y0, z1)], color, label, z0)

    def quad_z(self, z: float, x0: float, x1: float, y0: float, y1: float, color, label: int) -> None:
        """Upright face across the street: at Z = z, from x0 to x1 and y0 to y1."""
        p = self.camera.project
        self.fill([p(x0, y0, z), p(x0, y1, z), p(x1, y1, z), p(x1, y0, z)], color, label, z)

    def ground(self, x0: float, x1: float, z0: float, z1: float, color, label: int) -> None:
        """Patch of ground, cut into pieces so that it follows the bend of the road."""
        p = self.camera.project
        zs = np.geomspace(max(z0, 0.6), z1, 2 + int(4 * np.log(max(z1 / max(z0, 0.6), 1.01))))
        left, right = [p(x0, 0, z) for z in zs], [p(x1, 0, z) for z in zs]
        self.fill(left + right[::-1], color, label, (z0 + z1) / 2)

    def shade(self, column: float, row: float, radius_x: float, radius_y: float, strength: float) -> None:
        """Soft contact shadow: darkens colours, leaves labels."""
        x0, x1 = int(max(column - radius_x, 0)), int(min(column + radius_x + 1, self.width))
        y0, y1 = int(max(row - radius_y, 0)), int(min(row + radius_y + 1, self.height))
        if x1 <= x0 or y1 <= y0:
            return
        yy, xx = np.mgrid[y0:y1, x0:x1]
        inside = 1 - ((xx - column) / radius_x) ** 2 - ((yy - row) / radius_y) ** 2
        factor = 1 - strength * np.clip(2 * inside, 0, 1)
        self.color[y0:y1, x0:x1] = (self.color[y0:y1, x0:x1] * factor[..., None]).astype(np.uint8)

    def lit(self, color, side: int) -> np.ndarray:
        """Colour of a face that looks left (-1), right (1) or towards the camera (0)."""
        return np.clip(np.asarray(color, float) * (0.86 + 0.22 * side * self.light), 0, 255)


def paint(color) -> tuple[int, int, int]:
    """Colour as cv2 wants it."""
    return tuple(int(c) for c in np.clip(color, 0, 255))


def noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth random field of mean 0 and about unit spread, with features of ``cell`` pixels."""
    small = rng.standard_normal((int(height / cell) + 2, int(width / cell) + 2)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
