"""Score maps of many detectors on a few scenes, for the figure that shows any two of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata
from tqdm.auto import tqdm

from ..bravo.protocol import metrics_of
from ..datasets.labels import VOID
from ..datasets.loading import Sample, load_dataset
from ..detectors.base import smoothed
from ..detectors.comparison import Comparison
from ..method.distances import upsample
from .explorables import encode_map, jpeg_uri

if TYPE_CHECKING:
    from ..model.segmenter import Prediction, Segmenter

PER_HALVING, HALVINGS = 6, 10
"""Levels of rarity: six for each halving of the share of pixels that score as high, down to one in 1000."""
WIDEST = 96
"""Columns of a map at most: seventeen detectors on four scenes, plain and smoothed, are to fit into 300 kB."""
RIGHT, WRONG, UNKNOWN, NOTHING = range(4)
JPEG_QUALITY = 35


def scenes_with_objects(
    splits: Sequence[str], root: str | Path | None = None, limit: int | None = None, number: int = 4
) -> list[tuple[str, Sample]]:
    """A few scenes from the one with much unknown to the one with little, so that sizes of all kinds are among them.

    Parameters
    ----------
    splits : sequence of str
        Those in which right and wrong classes can be told apart come first; another one is opened only where they have
        too few scenes with unknown objects.
    root, limit
        As for ``load_dataset``; at most 60 scenes of a split are looked at.
    number : int, default=4

    Returns
    -------
    list of (str, Sample)
        Split and scene, at most ``number``. If there are no unknown objects at all, the first scenes.
    """
    found: list[tuple[float, str, Sample]] = []
    every: list[tuple[str, Sample]] = []
    for split in sorted(splits, key=lambda split: not metrics_of(split).semantic):
        for sample in load_dataset(split, root=root, limit=min(limit or 60, 60)):
            every.append((split, sample))
            if share := float(sample.invalid().mean()):
                found.append((share, split, sample))
        if len(found) >= number:
            break
    found.sort(key=lambda one: -one[0])
    places = sorted({int((i + 0.5) * len(found) / number) for i in range(number)})
    return [found[place][1:] for place in places] if found else every[:number]


def side_by_side(
    compared: Comparison,
    scenes: Sequence[tuple[str, Sample]],
    segmenter: Segmenter,
    sigma: float,
    start: tuple[str, str],
) -> dict[str, Any]:
    """What ``show_explorable("detectors", ...)`` draws: how rare each pixel's score is, by each detector.

    Scores of different detectors have nothing in common but their order. So each is replaced by the share of all pixels
    of these scenes that score at least as high, in sixths of a halving. That is finest where a ranking is decided.

    Parameters
    ----------
    compared : Comparison
        Fitted detectors.
    scenes : sequence of (str, Sample)
        As :func:`scenes_with_objects` gives them; each costs a forward pass.
    segmenter : Segmenter
    sigma : float
        Width, in cells, of the Gaussian of the smoothed maps.
    start : (str, str)
        The two detectors that one sees first.

    Returns
    -------
    dict
        ``detectors`` (names), ``start``, ``per_halving``, ``levels``, and ``scenes``, each with ``title``, ``image``,
        ``rows``, ``columns``, ``step`` (every n-th pixel is there), ``labelled`` (whether right and wrong classes are
        known), ``kinds`` (right, wrong, unknown, void), and ``maps``: levels of rarity of each detector, plain and
        smoothed.
    """
    scores: dict[tuple[str, bool], list[np.ndarray]] = {}
    entries = []
    for split, sample in tqdm(scenes, desc="scenes to show"):
        prediction = segmenter.predict(sample.image())
        entries.append(_entry(split, sample, prediction))
        for name, cells in compared.score(prediction).items():
            for wide in (False, True):
                values = upsample(smoothed(cells, sigma) if wide else cells, prediction.shape)
                scores.setdefault((name, wide), []).append(_thinned(values))
    levels = {key: [encode_map(one) for one in _rarity(maps)] for key, maps in scores.items()}
    for i, entry in enumerate(entries):
        entry["maps"] = [[levels[name, wide][i] for wide in (False, True)] for name in compared.detectors]
    about = {"detectors": list(compared.detectors), "start": list(start)}
    return about | {"per_halving": PER_HALVING, "levels": PER_HALVING * HALVINGS, "scenes": entries}


def _step(width: int) -> int:
    """Every n-th column is kept."""
    return -(-width // WIDEST)


def _thinned(values: np.ndarray) -> np.ndarray:
    step = _step(values.shape[1])
    return values[::step, ::step]


def _entry(split: str, sample: Sample, prediction: Prediction) -> dict[str, Any]:
    """What there is to say of a scene before it has maps."""
    image, label, invalid, void = sample.image(), sample.label(), sample.invalid(), sample.void()
    labelled = metrics_of(split, labelled=label is not None).semantic
    if label is not None:
        void = void | (label == VOID)
    kinds = np.where(prediction.classes == label, RIGHT, WRONG) if labelled else np.full(void.shape, RIGHT)
    kinds[invalid] = UNKNOWN
    kinds[void] = NOTHING
    kinds, step = _thinned(kinds), _step(void.shape[1])
    share = f"{invalid.mean():.1%}".replace("%", "\u00a0%")
    return {
        "title": f"{sample.name.rpartition('/')[2]}: {share} unknown",
        "image": jpeg_uri(np.ascontiguousarray(image[:: max(step // 4, 1), :: max(step // 4, 1)]), JPEG_QUALITY),
        "rows": kinds.shape[0],
        "columns": kinds.shape[1],
        "step": step,
        "labelled": labelled,
        "kinds": encode_map(kinds.astype(np.uint8)),
    }


def _rarity(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Scores as levels: n where a share of at most 2^(-n / 6) of all pixels scores at least as high."""
    ends = np.cumsum([one.size for one in maps])
    as_high = rankdata(-np.concatenate([one.ravel() for one in maps]), method="max") / ends[-1]
    levels = np.minimum(-PER_HALVING * np.log2(as_high), PER_HALVING * HALVINGS - 1).astype(np.uint8)
    return [part.reshape(one.shape) for part, one in zip(np.split(levels, ends[:-1]), maps, strict=True)]
