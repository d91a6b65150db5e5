"""Scenes to click at: a pixel's nearest centres, and how usual its distance is (``explorables/centers.js``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from ..datasets.labels import CLASS_NAMES
from ..datasets.samples import Sample
from ..method.embedder import grid_pixels
from ..method.kmeans import ClassKMeans
from .explorables import encode_map, jpeg_uri
from .patches import PATCH, cut_patch, images_of, scaled, sheet

if TYPE_CHECKING:
    from ..model.segmenter import Segmenter
    from .artifacts import Run

NEAREST = 3
QUANTILE = 0.85
STEPS = 256
"""How many distances stand for the calibration pixels of a class."""
COLUMNS, ROWS = 96, 72
"""Most cells of a scene."""
WIDTH = 384
"""Most columns of a scene's picture."""
QUALITY, PATCH_QUALITY = 55, 40
NONE = 65535
"""In place of a centre that a class with fewer than three does not have."""
HUNDREDTHS = 100


def nearest_centers(kmeans: ClassKMeans, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three centres nearest to each vector, as :meth:`ClassKMeans.scaled_distance` measures.

    Parameters
    ----------
    kmeans : ClassKMeans
        Fitted.
    x, y : numpy.ndarray
        (n, D) vectors, (n,) predicted classes.

    Returns
    -------
    tuple of numpy.ndarray
        (n, 3) int64 numbers of centres, counted through all classes in rising order, and (n, 3) float64 distances in
        units of their classes' scales; where a class has fewer centres, 65535 and infinity. For a class without any,
        those of all classes count.
    """
    classes = sorted(kmeans.centers_)
    first = dict(zip(classes, np.cumsum([0, *(len(kmeans.centers_[c]) for c in classes)]), strict=False))
    numbers, distance = np.full((len(x), NEAREST), NONE), np.full((len(x), NEAREST), np.inf)
    for c in np.unique(y):
        here = np.flatnonzero(y == c)
        own = [int(c)] if int(c) in first else classes
        far = np.concatenate([kmeans.distances(x[here], one) / kmeans.scales_[one] for one in own], axis=1)
        order = np.argsort(far, axis=1, kind="stable")[:, :NEAREST]
        numbers[here, : order.shape[1]] = order + first[own[0]]
        distance[here, : order.shape[1]] = np.take_along_axis(far, order, axis=1)
    return numbers, distance


def medoids(kmeans: ClassKMeans, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rows of the pixels that lie closest to the centres: (centres,) int64, the centres as in :func:`nearest_centers`.

    ``x`` (n, D) and ``y`` (n,) are vectors and true classes of the fit.
    """
    closest = []
    for c in sorted(kmeans.centers_):
        rows = np.flatnonzero(y == c)
        closest.append(rows[kmeans.distances(x[rows], c).argmin(0)])
    return np.concatenate(closest)


def centers_to_meet(
    run: Run,
    kmeans: ClassKMeans,
    scenes: Mapping[str, Sample],
    segmenter: Segmenter,
    *,
    n_per_class: int | None = None,
    seed: int = 0,
    root: str | None = None,
) -> dict[str, Any]:
    """What the explorable "centers" draws.

    Parameters
    ----------
    run : Run
        Where the pixels of the fit and the embedder are.
    kmeans : ClassKMeans
        Fitted on them, and calibrated.
    scenes : mapping of str to Sample
        Scenes to click at, by their titles.
    segmenter : Segmenter
        What predicts.
    n_per_class, seed : int
        With which the pixels of the fit were loaded.
    root : str, optional
        Where the data set of the fit lies.

    Returns
    -------
    dict
        Of what JSON knows. Distances are in units of what 85 % of the calibration pixels of the class stay below.
    """
    opened = {title: _scene(run, kmeans, sample, segmenter) for title, sample in scenes.items()}
    met = np.unique(np.concatenate([scene["numbers"].ravel() for scene in opened.values()]))
    met = met[met != NONE]
    owner = np.repeat(sorted(kmeans.centers_), [len(kmeans.centers_[c]) for c in sorted(kmeans.centers_)])
    size = np.concatenate([kmeans.counts_[c] for c in sorted(kmeans.centers_)])
    patches, columns = sheet(_medoid_patches(run, kmeans, met, n_per_class, seed, root))
    classes = np.unique(np.concatenate([np.unique(scene["classes"]) for scene in opened.values()]))
    return {
        "names": list(CLASS_NAMES),
        "scenes": [_encoded(title, scene, met) for title, scene in opened.items()],
        "centers": {"class": owner[met].tolist(), "pixels": size[met].tolist()},
        "patches": {"image": jpeg_uri(patches, PATCH_QUALITY), "columns": columns, "size": PATCH},
        "calibration": {
            "classes": classes.tolist(),
            "pooled": [int(c) for c in classes if int(c) not in kmeans.quantiles_],
            "steps": STEPS,
            "distances": encode_map(_hundredths(np.stack([_calibration(kmeans, int(c)) for c in classes]))),
        },
    }


def _scene(run: Run, kmeans: ClassKMeans, sample: Sample, segmenter: Segmenter) -> dict[str, np.ndarray]:
    """Picture, and by cell: predicted class, whether it is unknown, and (3, h, w) numbers and distances of centres."""
    image = sample.image()
    prediction = segmenter.predict(image)
    classes = prediction.logits.argmax(0)
    step = int(np.ceil(max(classes.shape[0] / ROWS, classes.shape[1] / COLUMNS)))
    kept = slice(step // 2, None, step)
    cells = grid_pixels(classes.shape, prediction.shape).reshape(*classes.shape, 2)[kept, kept]
    classes, vectors = classes[kept, kept], run.embedder.transform(prediction, cells.reshape(-1, 2))
    numbers, distance = nearest_centers(kmeans, vectors, classes.ravel())
    usual = np.maximum(kmeans.calibration_quantile(classes.ravel(), QUANTILE), 1e-6)
    return {
        "image": scaled(image, _picture_size(image.shape)),
        "classes": classes,
        "unknown": sample.invalid()[tuple(np.moveaxis(np.floor(cells + 0.5).astype(int), -1, 0))],
        "numbers": numbers.T.reshape(NEAREST, *classes.shape),
        "distance": (distance / usual[:, None]).T.reshape(NEAREST, *classes.shape),
    }


def _picture_size(shape: tuple[int, ...]) -> tuple[int, int]:
    width = min(shape[1], WIDTH)
    return max(1, round(shape[0] * width / shape[1])), width


def _encoded(title: str, scene: dict[str, np.ndarray], met: np.ndarray) -> dict[str, Any]:
    """A scene as JSON; its maps lie one below the other, centres by their places in ``met`` in two bytes."""
    place = np.where(scene["numbers"] == NONE, NONE, np.searchsorted(met, scene["numbers"]))
    planes = [scene["classes"][None], scene["unknown"][None], place >> 8, place & 255, _hundredths(scene["distance"])]
    rows, columns = scene["classes"].shape
    return {
        "title": f"{title}, with an unknown object" if scene["unknown"].any() else title,
        "rows": rows,
        "columns": columns,
        "size": list(scene["image"].shape[1::-1]),
        "image": jpeg_uri(scene["image"], QUALITY),
        "maps": encode_map(np.concatenate(planes).reshape(-1, columns).astype(np.uint8)),
    }


def _hundredths(distance: np.ndarray) -> np.ndarray:
    """As uint8; 255 stands for 2.55 and more."""
    return np.minimum(np.round(HUNDREDTHS * distance), 255).astype(np.uint8)


def _calibration(kmeans: ClassKMeans, c: int) -> np.ndarray:
    """Sorted distances (256,) that stand for those of the calibration pixels of a class."""
    distances = kmeans.quantiles_.get(c, kmeans.quantiles_[-1])
    usual = max(float(np.quantile(distances, QUANTILE)), 1e-6)
    return np.quantile(distances, (np.arange(STEPS) + 0.5) / STEPS) / usual


def _medoid_patches(
    run: Run, kmeans: ClassKMeans, met: np.ndarray, n_per_class: int | None, seed: int, root: str | None
) -> list[np.ndarray]:
    """Patches around the medoids of some centres."""
    rows = run.embeddings.load(n_per_class, seed, levels=run.embedder.levels)
    chosen = medoids(kmeans, run.embedder.apply(rows.embeddings), rows.label)[met]
    samples = images_of(run.embeddings, np.unique(rows.image[chosen]), root)
    patches: dict[int, np.ndarray] = {}
    for number, sample in tqdm(samples.items(), "cut patches"):
        image = sample.image()
        patches |= {int(row): cut_patch(image, rows.pixel[row]) for row in chosen[rows.image[chosen] == number]}
    return [patches[int(row)] for row in chosen]
