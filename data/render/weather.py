"""Weather, night, lens and foreign places: changes of a painted scene in the spirit of the BRAVO subsets."""

from __future__ import annotations

import cv2
import numpy as np
import skimage.data

from .canvas import noise

BACKGROUNDS = ("coffee", "grass", "gravel", "brick", "rocket", "cat", "immunohistochemistry")
"""Photographs in ``skimage.data`` (CC0 or public domain) used as foreign backgrounds."""


def fog(image: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Thick haze that grows with depth."""
    reach = rng.uniform(14, 40)
    gray = np.float32((206, 208, 212)) * rng.uniform(0.8, 1.02)
    veil = 1 - np.exp(-np.minimum(depth, 400) / reach)[..., None]
    patches = 1 + 0.12 * noise(rng, *depth.shape, 70)[..., None]
    veil = np.clip(veil * patches, 0, 0.97)
    return image * (1 - veil) + gray * veil


def night(image: np.ndarray, depth: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darkness, the car's own headlights, glowing lamps, sensor noise."""
    height, width = depth.shape
    out = image * np.float32((0.62, 0.66, 0.85)) * rng.uniform(0.16, 0.30)
    out[label == 10] = np.float32((10, 12, 22)) + 0.1 * out[label == 10]
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    beam = np.exp(-(((xx - width / 2) / (0.42 * width)) ** 2) - ((yy - 0.72 * height) / (0.3 * height)) ** 2)
    out += image * (beam * 18 / np.clip(depth, 12, 80) * 0.42)[..., None]
    glow = np.zeros_like(out)
    for _ in range(rng.integers(4, 10)):
        row, column = rng.uniform(0.1, 0.5) * height, rng.uniform(0, width)
        radius = rng.uniform(2, 7)
        color = np.float32((255, 215, 150)) * rng.uniform(0.6, 1.0)
        distance = (xx - column) ** 2 + (yy - row) ** 2
        glow += (np.exp(-distance / (2 * radius**2)) + 0.35 * np.exp(-distance / (40 * radius**2)))[..., None] * color
    return out + glow + rng.standard_normal(out.shape).astype(np.float32) * rng.uniform(4, 8)


def streaks(shape: tuple[int, int], rng: np.random.Generator, count: int, length: tuple[float, float]) -> np.ndarray:
    """Falling drops as short slanted lines, (H, W) float32 0..1."""
    layer = np.zeros(shape, np.float32)
    slant = rng.normal(0, 0.18)
    for _ in range(count):
        x, y, size = rng.uniform(0, shape[1]), rng.uniform(-10, shape[0]), rng.uniform(*length)
        cv2.line(
            layer, (int(x), int(y)), (int(x + slant * size), int(y + size)), float(rng.uniform(0.3, 1)), 1, cv2.LINE_AA
        )
    return cv2.GaussianBlur(layer, (0, 0), 0.6)


def rain(image: np.ndarray, depth: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey light, mist, mirror of the scene on the wet road, streaks."""
    gray = image.mean(-1, keepdims=True)
    out = (0.45 * image + 0.55 * gray) * rng.uniform(0.6, 0.8)
    horizon = int(0.42 * len(image))
    mirror = cv2.GaussianBlur(image[: len(image) - horizon][::-1], (0, 0), sigmaX=1.5, sigmaY=6)
    mirror = cv2.resize(mirror, (image.shape[1], len(image) - horizon))
    wet = ((label <= 1)[horizon:] * rng.uniform(0.25, 0.45))[..., None]
    out[horizon:] = out[horizon:] * (1 - wet) + mirror * wet * 0.8
    mist = (1 - np.exp(-np.minimum(depth, 300) / rng.uniform(60, 150)))[..., None]
    out = out * (1 - mist) + 168 * mist
    return out + 85 * streaks(depth.shape, rng, int(rng.integers(250, 600)), (6, 18))[..., None]


def snow(image: np.ndarray, depth: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White ground and roofs of leaves, flakes near and far, pale light."""
    height, width = depth.shape
    cover = np.select([label == 9, label == 1, label == 8, label == 0], [0.9, 0.75, 0.5, 0.35], 0.08)
    field = np.clip(0.5 + 0.6 * noise(rng, height, width, 14), 0, 1)
    cover = (cover * (0.4 + 0.6 * field))[..., None].astype(np.float32)
    out = image * (1 - cover) + np.float32((238, 241, 247)) * cover
    mist = (1 - np.exp(-np.minimum(depth, 300) / rng.uniform(45, 120)))[..., None]
    out = out * (1 - mist) + 215 * mist
    flakes = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(250, 700)):
        size = rng.exponential(0.8) + 0.5
        cv2.circle(
            flakes,
            (int(rng.uniform(0, width)), int(rng.uniform(0, height))),
            round(size),
            float(rng.uniform(0.4, 1)),
            -1,
        )
    flakes = cv2.GaussianBlur(flakes, (0, 0), 0.7)[..., None]
    return out * (1 - 0.85 * flakes) + 250 * 0.85 * flakes


def lens_drops(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drops on the lens: each shows a small, upside-down, blurred piece of the scene."""
    height, width = image.shape[:2]
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    map_x, map_y, cover = xx.copy(), yy.copy(), np.zeros((height, width), np.float32)
    for _ in range(rng.integers(25, 60)):
        column, row, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(3, 15)
        distance = np.sqrt((xx - column) ** 2 + ((yy - row) / rng.uniform(0.9, 1.4)) ** 2) / radius
        inside = distance < 1
        map_x[inside] = column - (xx[inside] - column) * 3.2
        map_y[inside] = row - (yy[inside] - row) * 3.2
        cover = np.maximum(cover, np.clip(3 * (1 - distance), 0, 1))
    bent = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    bent = cv2.GaussianBlur(bent, (0, 0), 1.4) * 1.06
    return image * (1 - cover[..., None]) + bent * cover[..., None]


def flare(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sun in the lens with rays and ghosts; pixels drowned by it are invalid."""
    height, width = image.shape[:2]
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    column, row = rng.uniform(0.15, 0.85) * width, rng.uniform(0.05, 0.35) * height
    distance = np.hypot(xx - column, yy - row)
    angle = np.arctan2(yy - row, xx - column)
    size = rng.uniform(16, 34)
    light = 1.6 * np.exp(-((distance / size) ** 2)) + 0.55 * np.exp(-distance / (3.2 * size))
    rays = np.clip(np.cos(angle * rng.integers(5, 9) + rng.uniform(0, 6)), 0, 1) ** 12
    light += 0.45 * rays * np.exp(-distance / (2.6 * size))
    veil = light[..., None] * np.float32((255, 240, 205))
    for step in rng.uniform(0.4, 1.9, rng.integers(3, 6)):
        ghost_x, ghost_y = column + (width / 2 - column) * step * 1.2, row + (height / 2 - row) * step * 1.2
        ring = np.clip(1.2 - np.hypot(xx - ghost_x, yy - ghost_y) / rng.uniform(6, 18), 0, 0.35)
        veil += ring[..., None] * rng.uniform(60, 255, 3).astype(np.float32)
    return image * 0.92 + veil, light > 0.75


def foreign_background(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Buildings, plants and sky replaced by a photograph from elsewhere; those pixels become void."""
    photo = getattr(skimage.data, BACKGROUNDS[rng.integers(len(BACKGROUNDS))])()
    if photo.ndim == 2:
        photo = np.repeat(photo[..., None], 3, -1)
    top = int(rng.integers(0, max(photo.shape[0] - photo.shape[1] // 2, 1)))
    photo = cv2.resize(photo[top : top + photo.shape[1] // 2, :, :3], image.shape[1::-1], interpolation=cv2.INTER_AREA)
    replaced = np.isin(label, (2, 8, 9, 10))
    soft = cv2.GaussianBlur(replaced.astype(np.float32), (0, 0), 0.6)[..., None]
    out = image * (1 - soft) + photo.astype(np.float32) * soft
    return out, np.where(replaced, 255, label).astype(np.uint8)
