"""Refinement rules and other confidence maps side by side: counts for metrics, false alarms, predictions on disk."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from ..anomaly.metrics import AnomalyAccumulator
from ..bravo.accumulator import BravoAccumulator
from ..bravo.protocol import metrics_of
from ..bravo.statistics import resampled_metrics
from ..bravo.submission import write_prediction
from ..datasets.loading import Sample, load_dataset
from ..method.distances import Distances, upsample
from ..method.embedder import PixelEmbedder
from ..method.kmeans import ClassKMeans
from ..method.refinement import CalibratedRule, PublishedRule, SurplusRule
from ..model.segmenter import Prediction, Segmenter

Maps = Callable[[Prediction, Sample], Iterable[tuple[Hashable, np.ndarray]]]
"""Gives the confidence maps (H, W) of one image as pairs with a name, one after another: one is in memory at a time."""


class Evaluation(NamedTuple):
    """What the rules did on one split, by the name of each rule.

    Attributes
    ----------
    counts : dict of str to BravoAccumulator
        All images.
    flagged : dict of str to float
        Share of the pixels outside of unknown objects that a rule's mask holds, 0..1, mean over images; NaN where the
        confidence is left as it is.
    anomalies : dict of str to AnomalyAccumulator
        Images with unknown objects, scored by low confidence, and by ``"distance"`` to the nearest shared centre.
    """

    counts: dict[str, BravoAccumulator]
    flagged: dict[str, float]
    anomalies: dict[str, AnomalyAccumulator]


def evaluate_rules(
    rules: Mapping[str, CalibratedRule | PublishedRule | SurplusRule | None],
    split: str,
    segmenter: Segmenter,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    *,
    root: str | Path | None = None,
    limit: int | None = None,
    tree: str | Path | None = None,
) -> Evaluation:
    """Refine every image of a split by several rules; the network sees it once, and its distances are measured once.

    Parameters
    ----------
    rules : mapping of str to rule or None
        Rules by name; None leaves the network's confidence as it is.
    split, root, limit
        As for ``load_dataset``.
    segmenter : Segmenter
    kmeans, embedder
        As for ``refine_confidence``.
    tree : path, optional
        Folder that gets a tree of predictions for each rule, ``<tree>/<rule>/``, as a submission needs it.
    """
    counts = {name: BravoAccumulator(split) for name in rules}
    flagged: dict[str, list[float]] = {name: [] for name in rules}
    anomalies = {name: AnomalyAccumulator(split) for name in (*rules, *(["distance"] if kmeans.statistics_ else []))}
    for sample in tqdm(load_dataset(split, root=root, limit=limit), desc=split):
        prediction = segmenter.predict(sample.image())
        distances = Distances(prediction, kmeans, embedder)
        label, invalid, void = sample.label(), sample.invalid(), sample.void()
        for name, rule in rules.items():
            confidence = prediction.confidence
            if rule is not None:
                confidence, mask = rule.apply(prediction, distances)
                flagged[name].append(float(mask[~invalid & ~void].mean()))
            counts[name].update(label, invalid, prediction.classes, confidence, void)
            if invalid.any():
                anomalies[name].update(-confidence, invalid, prediction.classes, void)
            if tree is not None:
                write_prediction(Path(tree) / name, split, sample.name, prediction.classes, confidence)
        if invalid.any() and kmeans.statistics_:
            distance = distances.averaged(kmeans.statistics_.smooth, kmeans.statistics_.segment)
            anomalies["distance"].update(upsample(distance, prediction.shape), invalid, prediction.classes, void)
    means = {name: float(np.mean(shares)) if shares else np.nan for name, shares in flagged.items()}
    return Evaluation(counts, means, anomalies)


class MapEvaluation(NamedTuple):
    """What one confidence map is worth on some splits.

    Attributes
    ----------
    counts : list of BravoAccumulator
        All images of each split.
    draws : numpy.ndarray
        OOD AUPRC (mean over the splits) of test sets drawn from the images with replacement, (draws,).
    """

    counts: list[BravoAccumulator]
    draws: np.ndarray


def evaluate_maps(
    maps: Maps,
    splits: Sequence[str],
    segmenter: Segmenter,
    *,
    root: str | Path | None = None,
    limit: int | None = None,
    draws: int = 0,
    seed: int = 0,
) -> dict[Hashable, MapEvaluation]:
    """Evaluate several confidence maps on the same splits; the network sees every image once.

    Parameters
    ----------
    maps : callable
        Confidence maps of one image; see :data:`Maps`. Every image has the same names.
    splits : sequence of str
        With ``draws``, such as have unknown objects.
    segmenter : Segmenter
    root, limit
        As for ``load_dataset``.
    draws, seed : int
        As for ``resampled_metrics``: all maps meet the same draws. With draws, the counts of each image of one split
        are in memory (1.6 MB for each map).

    Raises
    ------
    MetricsError
        With draws, if a split has fewer than two images or no unknown object.
    """
    counts: dict[Hashable, list[BravoAccumulator]] = {}
    drawn: dict[Hashable, list[np.ndarray]] = {}
    for split in splits:
        images: dict[Hashable, list[BravoAccumulator]] = {}
        for image in count_maps(maps, split, segmenter, root=root, limit=limit):
            for name, one in image.items():
                each = images.setdefault(name, [])
                if each and not draws:
                    each[0].merge(one)
                else:
                    each.append(one)
        for name, each in images.items():
            counts.setdefault(name, []).append(BravoAccumulator.total(each))
            if draws:
                resampled = resampled_metrics(each, draws, seed, semantic=False, ood=True)
                drawn.setdefault(name, []).append(resampled["auprc_ood"])
    return {name: MapEvaluation(each, np.mean(drawn.get(name, [[]]), axis=0)) for name, each in counts.items()}


def count_maps(
    maps: Maps, split: str, segmenter: Segmenter, *, root: str | Path | None = None, limit: int | None = None
) -> Iterator[dict[Hashable, BravoAccumulator]]:
    """Counts of each image of a split, one after another, by the name of the map; parameters as of `evaluate_maps`."""
    for sample in tqdm(load_dataset(split, root=root, limit=limit), desc=split):
        prediction = segmenter.predict(sample.image())
        label, invalid, void = sample.label(), sample.invalid(), sample.void()
        yield {
            name: BravoAccumulator(split).update(label, invalid, prediction.classes, confidence, void)
            for name, confidence in maps(prediction, sample)
        }


def mean_metrics(counts: Iterable[BravoAccumulator]) -> dict[str, float]:
    """Mean over splits of each metric, over those splits of which the protocol asks it and whose labels allow it."""
    rows: list[dict] = []
    for one in counts:
        groups = metrics_of(one.name or "", labelled=one.labelled, unknown=bool(one.invalid.any()))
        rows.append(one.compute(*groups) if any(groups) else {})
    keys = dict.fromkeys(key for row in rows for key in row if key != "iou_valid")
    return {key: float(np.mean([row[key] for row in rows if key in row])) for key in keys}
