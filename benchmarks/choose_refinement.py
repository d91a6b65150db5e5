"""How the settings of the refinements were chosen: one factor at a time, on development scenes only.

    python benchmarks/choose_refinement.py [--write]     # a table; --write puts it into book/choices.md

Unknown objects come from ``mini/devobjs`` (kinds of objects that leave three kinds out), the cost is measured on
``mini/val`` and on weather rendered anew from seeds that no test subset has. No test scene is read.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from iood_helpers import ClassKMeans, PixelEmbedder, load_dataset, load_segmenter, refine_confidence
from iood_helpers.bravo.accumulator import BravoAccumulator
from iood_helpers.bravo.metrics import LOWER_IS_BETTER, OOD_METRICS, SEMANTIC_METRICS, harmonic_mean
from iood_helpers.io import write_atomically
from iood_helpers.method.calibration import Recalibration
from iood_helpers.method.distances import Distances
from iood_helpers.method.embedder import grid_pixels
from iood_helpers.method.statistics import DistanceStatistics

ROOT = Path(__file__).resolve().parent.parent
WEATHER = ("ACDCfog", "ACDCrain", "ACDCnight", "ACDCsnow", "synrain", "synflare", "outofcontext")
FIRST_INDEX, SCENES = 500, 15
"""Development weather: scenes 500 to 514 of each subset; the shipped ones are 0 to 14."""

PER_IMAGE = 40
"""Pixels per class and image for fitting."""


@dataclass(frozen=True)
class Settings:
    """One row of the table."""

    levels: tuple = (0, 2, "decoder")
    standardize: bool = True
    n_clusters: int = 30
    quantile: float = 0.85
    smooth: float = 4.0
    strength: float = 2.5
    width: float = 0.1
    blend: float = 0.0
    sigma: float = 1.5
    n_shared: int = 0
    bound: float = 5.0
    around: float = 2.0
    segment: float = 0.5

    @property
    def clusters(self) -> tuple:
        """What the fit depends on."""
        return self.levels, self.standardize, self.n_clusters, self.n_shared, self.around, self.segment

    @property
    def options(self) -> dict[str, float | str]:
        """Keywords of the surplus rule, or of the fused refinement, which without blend is the calibrated one."""
        if self.n_shared:
            return {"mode": "surplus", "bound": self.bound}
        names = ("quantile", "smooth", "strength", "width", "blend", "sigma")
        return {"mode": "fused"} | {name: getattr(self, name) for name in names}


CHANGES = [
    *({"levels": levels} for levels in ((0,), (1,), (2,), (3,), ("decoder",), (0, 2), (0, 1, 2, 3, "decoder"))),
    {"standardize": False},
    *({"n_clusters": k} for k in (1, 10, 60)),
    *({"quantile": q} for q in (0.7, 0.95)),
    *({"smooth": s} for s in (0.0, 2.0, 6.0)),
    *({"strength": s} for s in (1.0, 2.0, 3.0, 4.0)),
    *({"width": w} for w in (0.05, 0.2, 0.4)),
]
FUSED = {"strength": 1.75, "blend": 0.35}
FUSED_CHANGES = [
    *({"blend": share} for share in (0.2, 0.5)),
    *({"sigma": cells} for cells in (0.75, 3.0)),
    *({"strength": s} for s in (0.0, 1.25, 2.25)),
    {"strength": 0.0, "blend": 1.0, "sigma": 4.0},  # a control: averaging alone
]
SURPLUS = {"n_shared": 1000}
SURPLUS_CHANGES = [
    *({"bound": b} for b in (3.0, 4.0, 6.0, 8.0)),
    {"n_shared": 300},
    {"levels": (2, "decoder")},
    *({"around": cells} for cells in (0.0, 4.0)),
    *({"segment": share} for share in (0.0, 1.0)),
]


def weather_scene(subset: str, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (through JPEG, as shipped), label and invalid mask."""
    sys.path.append(str(ROOT / "data"))  # the renderer is no part of the package
    from render import encode_jpeg, render_subset_scene

    scene = render_subset_scene(subset, index)
    return np.asarray(Image.open(io.BytesIO(encode_jpeg(scene.image)))), scene.label, scene.invalid


def predictions(segmenter) -> dict[str, list]:
    """(label, invalid, prediction) of every image of every set."""
    shipped = {"fit": "train-fit", "calibration": "train-calibration", "unknown": "devobjs", "val": "val"}
    sets = {}
    for name, split in shipped.items():
        samples = load_dataset(f"mini/{split}")
        sets[name] = [(s.label(), s.invalid(), segmenter.predict(s.image())) for s in tqdm(samples, desc=split)]
    jobs = [(subset, FIRST_INDEX + i) for subset in WEATHER for i in range(SCENES)]
    with ProcessPoolExecutor() as pool:
        scenes = list(tqdm(pool.map(weather_scene, *zip(*jobs, strict=True)), total=len(jobs), desc="weather"))
    for (subset, _), (image, label, invalid) in zip(jobs, scenes, strict=True):
        sets.setdefault(subset, []).append((label, invalid, segmenter.predict(image)))
    return sets


def fit(sets: dict, settings: Settings, seed: int) -> tuple[ClassKMeans, PixelEmbedder]:
    """Embedder and calibrated clusters, as notebooks 02 and 04 make them."""
    rng = np.random.default_rng(seed)
    embedder = PixelEmbedder(settings.levels, standardize=settings.standardize)

    def draw(name: str, predicted: bool, share: int) -> tuple[np.ndarray, np.ndarray]:
        vectors, classes = [], []
        for label, _, prediction in sets[name]:
            cells = np.floor(grid_pixels(prediction.logits.shape[1:], prediction.shape) + 0.5).astype(int)
            true = label[cells[:, 0], cells[:, 1]]
            drawn = np.where(true < 19, prediction.classes[cells[:, 0], cells[:, 1]], 255) if predicted else true
            chosen = np.concatenate([rng.permutation(np.flatnonzero(drawn == c))[:share] for c in range(19)])
            vectors.append(embedder.raw.transform(prediction, cells[chosen]))
            classes.append(drawn[chosen])
        return np.concatenate(vectors), np.concatenate(classes)

    vectors, classes = draw("fit", predicted=False, share=PER_IMAGE)
    keep = np.concatenate([rng.permutation(np.flatnonzero(classes == c))[:2000] for c in range(19)])
    if settings.standardize:
        embedder.fit(vectors[keep])
    kmeans = ClassKMeans(settings.n_clusters, n_shared=settings.n_shared, random_state=seed)
    kmeans.fit(embedder.apply(vectors[keep]), classes[keep])
    if settings.n_shared:
        average = settings.around, settings.segment
        maps = [Distances(p, kmeans, embedder).averaged(*average) for _, _, p in sets["calibration"]]
        kmeans.statistics_ = DistanceStatistics.from_maps(maps, *average)
    vectors, classes = draw("calibration", predicted=True, share=2 * PER_IMAGE)
    return kmeans.calibrate(embedder.apply(vectors), classes), embedder


def evaluate(sets: dict, refine) -> dict[str, float]:
    """Metrics of a refinement: function from prediction to confidence."""
    pairs = [(refine(p)[label < 19][::7], (p.classes == label)[label < 19][::7]) for label, _, p in sets["calibration"]]
    recalibrate = Recalibration().fit(*(np.concatenate(column) for column in zip(*pairs, strict=True)))
    counts = {}
    for name in ("unknown", "val", *WEATHER):
        counts[name] = BravoAccumulator(name)
        for label, invalid, prediction in sets[name]:
            counts[name].update(label, invalid, prediction.classes, recalibrate(refine(prediction)))
    ood = counts["unknown"].compute(semantic=False, ood=True)
    semantic = [counts[name].compute(semantic=True, ood=False) for name in ("val", *WEATHER)]

    def mean(rows: list, names: tuple[str, ...]) -> float:
        return harmonic_mean(1 - row[n] if n in LOWER_IS_BETTER else row[n] for row in rows for n in names)

    return {
        "AUROC": ood["auroc_ood"],
        "AUPRC": ood["auprc_ood"],
        "FPR95": ood["fpr95_ood"],
        "OOD": mean([ood], OOD_METRICS),
        "semantic": mean(semantic, SEMANTIC_METRICS),
        "ECE": float(np.mean([row["ece_valid"] for row in semantic])),
    }


def described(change: dict) -> str:
    """Words for a change."""
    return ", ".join(f"{name} {value}" for name, value in change.items())


def table(seed: int) -> str:
    """Markdown table of the three rules and of every change."""
    sets = predictions(load_segmenter("nano"))
    fitted: dict[tuple, tuple] = {}
    rows = {"*raw confidence*": evaluate(sets, lambda p: p.confidence)}
    changes = [("**calibrated**", {})] + [(described(change), change) for change in CHANGES]
    changes += [("**fused**", FUSED)] + [(f"fused, {described(change)}", FUSED | change) for change in FUSED_CHANGES]
    changes += [("**surplus**", SURPLUS)]
    changes += [(f"surplus, {described(change)}", SURPLUS | change) for change in SURPLUS_CHANGES]
    for label, change in tqdm(changes, desc="settings"):
        settings = replace(Settings(), **change)
        if settings.clusters not in fitted:
            fitted[settings.clusters] = fit(sets, settings, seed)
        refine = partial(refine_confidence, **settings.options)
        rows[label] = evaluate(sets, lambda p, r=refine, f=fitted[settings.clusters]: r(p, *f)[0])
    names = list(next(iter(rows.values())))
    lines = ["| Setting | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {label} | " + " | ".join(f"{row[n]:.3f}" for n in names) + " |" for label, row in rows.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into book/choices.md")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    result = table(args.seed)
    print(result)
    if args.write:
        page = ROOT / "book" / "choices.md"
        marks = re.compile(r"(?s)(<!-- table -->\n).*?(<!-- end -->)")
        text = marks.sub(lambda found: f"{found[1]}\n{result}\n\n{found[2]}", page.read_text())
        write_atomically(page, lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
