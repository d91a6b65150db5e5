"""A map of pixels to touch: what each pixel looks like, and where it lies in its scene (``explorables/map.js``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from ..datasets.labels import CLASS_NAMES, NUM_CLASSES
from ..datasets.samples import Sample
from ..method.columns import Embeddings
from ..method.kmeans import ClassKMeans
from ..method.store import EmbeddingStore
from .explorables import encode_numbers, jpeg_uri
from .patches import PATCH, cut_patch, images_of, scaled, sheet
from .plots import PLOT_PALETTE

UNKNOWN = NUM_CLASSES
"""True class of pixels of unknown objects: one more than those of the network."""
QUANTILE = 0.85
QUALITY = 25
SIDE = 999
"""Largest coordinate on the map."""
SCENE_WIDTHS, SCENE_PIXELS = (32, 48), 150_000
"""Least and largest width of the small scenes, and how many pixels they should have together."""


class MappedPixel(NamedTuple):
    """A pixel on the map.

    Attributes
    ----------
    sample : Sample
        Its image.
    pixel : tuple of int
        Row and column there.
    true, predicted : int
        Train ids 0..18; ``UNKNOWN`` (19) is the true one of unknown objects.
    confidence : float
        Of the network, 0..1.
    """

    sample: Sample
    pixel: tuple[int, int]
    true: int
    predicted: int
    confidence: float


def stored_pixels(store: EmbeddingStore, rows: Embeddings, root: str | None = None) -> list[MappedPixel]:
    """The pixels that rows of a store stand for; DatasetError if their images are gone."""
    samples = images_of(store, np.unique(rows.image), root)
    columns = zip(rows.image, rows.pixel, rows.label, rows.predicted, rows.confidence, strict=True)
    return [
        MappedPixel(samples[int(image)], (int(pixel[0]), int(pixel[1])), int(true), int(predicted), float(confidence))
        for image, pixel, true, predicted, confidence in columns
    ]


def pixel_map(
    points: np.ndarray, vectors: np.ndarray, pixels: Sequence[MappedPixel], kmeans: ClassKMeans
) -> dict[str, Any]:
    """What the explorable "map" draws.

    Parameters
    ----------
    points : numpy.ndarray
        (n, 2) places on the map.
    vectors : numpy.ndarray
        (n, D) vectors of the pixels.
    pixels : sequence of MappedPixel
        What else is known of them.
    kmeans : ClassKMeans
        Fitted and calibrated; gives distance and cluster, each by the predicted class.

    Returns
    -------
    dict
        Of what JSON knows. Distances are in units of what 85 % of the calibration pixels of the class stay below.
    """
    predicted = np.array([pixel.predicted for pixel in pixels])
    true = np.array([pixel.true for pixel in pixels])
    cluster = kmeans.predict_cluster(vectors, predicted)
    usual = np.maximum(kmeans.calibration_quantile(predicted, QUANTILE), 1e-6)
    distance = kmeans.scaled_distance(vectors, predicted) / usual
    patches, scenes, scene = _pictures(pixels)
    low, high = points.min(0), points.max(0)
    places = (points - low) / np.maximum(high - low, 1e-9)
    shapes = np.array([shape for _, shape in scenes])
    within = np.array([pixel.pixel for pixel in pixels]) / shapes[scene]
    columns: dict[str, np.ndarray] = {
        "x": SIDE * places[:, 0],
        "y": SIDE * places[:, 1],
        "confidence": 1000 * np.array([pixel.confidence for pixel in pixels]),
        "distance": 100 * distance,
        "true": true,
        "predicted": predicted,
        "cluster": cluster + 1,  # 0: its class has none
        "scene": scene,
        "row": 255 * within[:, 0],
        "column": 255 * within[:, 1],
    }
    picture, across = sheet(patches)
    small, beside = sheet([scene for scene, _ in scenes])
    return {
        "names": [*CLASS_NAMES, "unknown object"],
        "colors": PLOT_PALETTE.tolist(),
        "count": len(pixels),
        "clusters": int(cluster.max()) + 1,
        "points": {name: encode_numbers(values) for name, values in columns.items()},
        "patches": {"image": jpeg_uri(picture, QUALITY), "columns": across, "size": PATCH},
        "scenes": {"image": jpeg_uri(small, QUALITY), "columns": beside, "size": list(scenes[0][0].shape[1::-1])},
        "shapes": shapes.tolist(),
    }


def _pictures(
    pixels: Sequence[MappedPixel],
) -> tuple[np.ndarray, list[tuple[np.ndarray, tuple[int, int]]], np.ndarray]:
    """Patch of each pixel, (n, 24, 24, 3); small pictures of the scenes with their shapes (H, W); scene of each."""
    samples = [pixel.sample for pixel in pixels]
    numbers = {sample: number for number, sample in enumerate(dict.fromkeys(samples))}
    scene = np.array([numbers[sample] for sample in samples])
    patches, scenes, size = np.zeros((len(pixels), PATCH, PATCH, 3), np.uint8), [], None
    for sample, number in tqdm(numbers.items(), "cut patches"):
        image = sample.image()
        size = size or _scene_size(image.shape[:2], len(numbers))
        scenes.append((scaled(image, size), image.shape[:2]))
        for i in np.flatnonzero(scene == number).tolist():
            patches[i] = cut_patch(image, pixels[i].pixel)
    return patches, scenes, scene


def _scene_size(shape: tuple[int, int], count: int) -> tuple[int, int]:
    """Height and width of all small scenes."""
    ratio = shape[0] / shape[1]
    width = int(np.clip(np.sqrt(SCENE_PIXELS / count / ratio), *SCENE_WIDTHS))
    return max(1, round(width * ratio)), width
