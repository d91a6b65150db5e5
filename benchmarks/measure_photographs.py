"""What one run on photographs does not show: kinds of objects, false alarms elsewhere, and images of one's own town.

    make real IOOD_DATA=/folder                     # the run, into runs/roadanomaly
    python benchmarks/measure_photographs.py        # into runs/roadanomaly/photographs.json
    python benchmarks/record_photographs.py         # into book/photographs.md

Needs ``roadanomaly/``, ``labelmefacade/``, ``camvid/`` and ``cityscapes/`` below the data root.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from iood_helpers import ClassKMeans, PixelEmbedder, Segmenter, load_dataset, load_segmenter
from iood_helpers.anomaly.metrics import AnomalyAccumulator
from iood_helpers.course.artifacts import load_run
from iood_helpers.datasets.labels import CLASS_NAMES
from iood_helpers.io import write_json
from iood_helpers.method.distances import Distances, upsample
from iood_helpers.method.statistics import DistanceStatistics
from iood_helpers.method.surplus import SurplusRule

UNUSUAL = "roadanomaly/all"
ORDINARY = {"labelmefacade/all": 1, "camvid/test": 4, "cityscapes/val": 1}
"""Splits without unknown objects, and how many images stand for one that is looked at."""
FOUND = 0.8
TOWN = {"train": ("camvid/train", 8), "test": ("camvid/test", 4)}
SIZES, DRAWS = (1, 3, 10, 30), 30
EVERY = 37
"""One pixel of so many is kept."""


def scores(fitted: tuple, split: str, every: int, bound: float) -> Iterator[tuple]:
    """Name, predicted classes, anomalies and scores (higher is more unusual) of the valid pixels of each image."""
    segmenter, kmeans, embedder = fitted
    for sample in tqdm(load_dataset(split)[::every], desc=split):
        prediction = segmenter.predict(sample.image())
        distances = Distances(prediction, kmeans, embedder)
        maps = {
            "raw": -prediction.confidence,
            "surplus": -SurplusRule(bound).apply(prediction, distances)[0],
            "distance": upsample(distances.averaged(), prediction.shape),
        }
        yield (
            sample.name,
            prediction.classes,
            sample.invalid(),
            {n: np.where(sample.void(), np.nan, m) for n, m in maps.items()},
        )


def kind_of(name: str) -> str:
    """``animals`` of ``frames/animals01_calves``."""
    return re.match(r"[a-z]+", name.rsplit("/", 1)[-1])[0]


def found_and_false(fitted: tuple, bound: float) -> dict:
    """Metrics by kind of object, and the share of ordinary pixels beyond the threshold that finds 80 % of anomalies."""
    kinds: dict[str, dict[str, AnomalyAccumulator]] = {}
    unknown: dict[str, list] = {}
    for name, classes, anomaly, maps in scores(fitted, UNUSUAL, 1, bound):
        for score, values in maps.items():
            void = np.isnan(values)
            one = kinds.setdefault(kind_of(name), {}).setdefault(score, AnomalyAccumulator())
            one.update(np.nan_to_num(values), anomaly, classes, void)
            unknown.setdefault(score, []).append(values[anomaly & ~void])
    thresholds = {score: float(np.quantile(np.concatenate(v), 1 - FOUND)) for score, v in unknown.items()}
    result: dict = {"kinds": {}, "false": {}, "classes": {}}
    for kind, by_score in kinds.items():
        images = by_score["raw"].images
        result["kinds"][kind] = {"images": images} | {n: one.compute() for n, one in by_score.items()}
    for split, every in ORDINARY.items():
        parts: dict[str, list] = {}
        for _, classes, _, maps in scores(fitted, split, every, bound):
            valid = ~np.isnan(maps["raw"])
            parts.setdefault("classes", []).append(classes[valid][::EVERY])
            for score, values in maps.items():
                parts.setdefault(score, []).append((values >= thresholds[score])[valid][::EVERY])
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        classes = joined.pop("classes")
        result["false"][split] = {score: float(values.mean()) for score, values in joined.items()}
        result["classes"][split] = {
            CLASS_NAMES[c]: {"share": float((classes == c).mean())}
            | {s: float(v[classes == c].mean()) for s, v in joined.items()}
            for c in np.unique(classes)
        }
    return result


def own_town(segmenter: Segmenter, kmeans: ClassKMeans, embedder: PixelEmbedder, seed: int) -> dict:
    """False alarms on images of a town, where 1 % is asked for on n other images of it: percentiles over draws."""
    maps = {}
    for part, (split, every) in TOWN.items():
        samples = tqdm(load_dataset(split)[::every], desc=split)
        maps[part] = [Distances(segmenter.predict(s.image()), kmeans, embedder).averaged() for s in samples]
    rng, test = np.random.default_rng(seed), np.concatenate([m.ravel() for m in maps["test"]])
    curve = {}
    for size in SIZES:
        shares = []
        for _ in range(DRAWS):
            drawn = [maps["train"][i].ravel() for i in rng.permutation(len(maps["train"]))[:size]]
            shares.append(
                [float((test > np.quantile(np.concatenate(drawn), 1 - asked)).mean()) for asked in (0.01, 0.05)]
            )
        curve[size] = np.percentile(shares, (10, 50, 90), axis=0).T.tolist()
    usual: DistanceStatistics = kmeans.statistics_
    return {"curve": curve, "elsewhere": float((test > usual.mean + 2.326 * usual.std).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("runs/roadanomaly"))
    parser.add_argument("--checkpoint", default="efficientvit-b0-cityscapes")
    parser.add_argument("--bound", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    run = load_run(args.run.absolute())
    fitted = load_segmenter(args.checkpoint), run.kmeans, run.embedder
    found = found_and_false(fitted, args.bound) | {"town": own_town(*fitted, args.seed)}
    print(write_json(run.folder / "photographs.json", found))


if __name__ == "__main__":
    main()
