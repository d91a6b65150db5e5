"""Refinement rules side by side on one split: counts for the metrics, false alarms, and predictions on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from ..bravo.accumulator import BravoAccumulator
from ..bravo.submission import write_prediction
from ..datasets.loading import load_dataset
from ..method.distances import Distances
from ..method.embedder import PixelEmbedder
from ..method.kmeans import ClassKMeans
from ..method.refinement import CalibratedRule, PublishedRule
from ..model.segmenter import Segmenter


class Evaluation(NamedTuple):
    """What the rules did on one split, by the name of each rule.

    Attributes
    ----------
    counts : dict of str to BravoAccumulator
        All images.
    flagged : dict of str to float
        Share of the pixels outside of unknown objects that a rule's mask holds, 0..1, mean over images; NaN where the
        confidence is left as it is.
    """

    counts: dict[str, BravoAccumulator]
    flagged: dict[str, float]


def evaluate_rules(
    rules: Mapping[str, CalibratedRule | PublishedRule | None],
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
            if tree is not None:
                write_prediction(Path(tree) / name, split, sample.name, prediction.classes, confidence)
    return Evaluation(counts, {name: float(np.mean(shares)) if shares else np.nan for name, shares in flagged.items()})
