"""What a run will cost, before it starts: from a handful of images, timed on this machine.

    python -m iood_helpers.plan mini
    python -m iood_helpers.plan cityscapes_bravo --workers 1 8 --images 5
    python -m iood_helpers.plan mini --test-images 45000 --set n_clusters=60

Planned are the steps of ``iood_helpers.scale``: embeddings, clusters, refined predictions, metrics. Notebooks that
study the method cost more. A worker is a process with what this one had: its GPU, or as many cores as ``--threads``
says.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..datasets.labels import NUM_CLASSES
from ..errors import IoodError, ParameterError, RefinementError
from ..io import write_json

if TYPE_CHECKING:
    from ..datasets.samples import Dataset

OVERHEAD = 0.003
"""Seconds that the scheduler and the client need for a task, one after another whatever the number of workers; measured
with tasks that do nothing (2.7 to 2.9 ms of one core)."""
GIB = 2**30


@dataclass(frozen=True)
class Timings:
    """What was measured.

    Attributes
    ----------
    start : float
        Seconds until a process has its network.
    extract, calibrate, refine, score : float
        Seconds per image: reading, predicting and storing its vectors; measuring its distances, and what the rules
        make of its confidences; refining it by all rules; counting it for all rules.
    fit : float
        Seconds of the whole fit, in one process.
    store_bytes, tree_bytes : float
        Bytes on disk per image: of vectors, and of predictions by all rules.
    worker_bytes, fit_bytes : int
        Memory of a worker, and of the vectors of the fit.
    """

    start: float
    extract: float
    calibrate: float
    refine: float
    score: float
    fit: float
    store_bytes: float
    tree_bytes: float
    worker_bytes: int
    fit_bytes: int


@dataclass(frozen=True)
class Work:
    """How many images: to draw pixels from, to calibrate on (one process, no more), and to predict."""

    drawn: int
    calibrated: int
    tested: int


class Step(NamedTuple):
    """One line of a plan.

    Attributes
    ----------
    name : str
    images : int
        0 for the fit.
    seconds : dict of int to float
        By the number of workers.
    disk : float
        Bytes.
    """

    name: str
    images: int
    seconds: dict[int, float]
    disk: float


def plan(timings: Timings, work: Work, workers: Sequence[int]) -> list[Step]:
    """Seconds and disk of each step, and of all together.

    Parameters
    ----------
    timings : Timings
    work : Work
    workers : sequence of int
        Numbers of workers; 1 is this process alone.

    Returns
    -------
    list of Step
        The last one is the total.
    """

    def spread(images: int, each: float) -> dict[int, float]:
        """The images in rounds, one for each worker; the scheduler handles one task after another."""
        return {n: max(math.ceil(images / n) * each, images * OVERHEAD * (n > 1)) for n in workers}

    def alone(seconds: float) -> dict[int, float]:
        return dict.fromkeys(workers, seconds)

    steps = [
        Step("start", 0, alone(timings.start), 0),
        Step("embeddings", work.drawn, spread(work.drawn, timings.extract), work.drawn * timings.store_bytes),
        Step("clusters", 0, alone(timings.fit), 0),
        Step("calibration", work.calibrated, alone(work.calibrated * timings.calibrate), 0),
        Step("predictions", work.tested, spread(work.tested, timings.refine), work.tested * timings.tree_bytes),
        Step("metrics", work.tested, spread(work.tested, timings.score), 0),
    ]
    seconds = {n: sum(step.seconds[n] for step in steps) for n in workers}
    return [*steps, Step("total", 0, seconds, sum(step.disk for step in steps))]


def measure(parameters: Mapping[str, Any], images: int, counts: Work | None = None) -> tuple[Timings, Work]:
    """Run every step on a handful of images, in a folder that is removed again.

    Parameters
    ----------
    parameters : mapping
        Those of a profile.
    images : int
        How many of each split; the first one warms up and is not counted.
    counts : Work, optional
        Numbers of images to plan for, in place of those of the splits; zeros stand for those of the splits.

    Returns
    -------
    timings : Timings
    work : Work

    Raises
    ------
    IoodError
        As the steps do; DatasetError if a split is missing.
    """
    from ..bravo.protocol import expand_splits
    from ..datasets.loading import load_dataset
    from .clients import Network

    begin = time.perf_counter()
    network = Network(parameters["checkpoint"], precision=parameters["precision"])
    network.segmenter()
    start = time.perf_counter() - begin
    where = {"root": parameters["data_root"], "limit": parameters["limit"]}
    splits = [parameters["train_split"], parameters["calibration_split"], *expand_splits(parameters["test_splits"])]
    fit, calibration, *tested = (load_dataset(split, **where) for split in splits)
    counts = counts or Work(0, 0, 0)
    work = Work(
        counts.drawn or len(fit) + len(calibration),
        counts.calibrated or min(parameters["recalibration_images"] or len(calibration), len(calibration)),
        counts.tested or sum(map(len, tested)),
    )
    with TemporaryDirectory() as folder:
        handful = _Handful(network, parameters, Path(folder), images)
        ways = [handful.extract(split) for split in (calibration, fit)]  # the last one is fitted
        numbers = [len(calibration), len(fit)]
        extract, store_bytes = (float(np.average(each, weights=numbers)) for each in zip(*ways, strict=True))
        fitting, fit_bytes = handful.fit(len(fit))
        calibrate = handful.calibrate()
        refine, score, tree_bytes = handful.refine(tested)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Timings(start, extract, calibrate, refine, score, fitting, store_bytes, tree_bytes, peak, fit_bytes), work


class _Handful:
    """The steps on a few images, timed."""

    def __init__(self, network: Any, parameters: Mapping[str, Any], folder: Path, images: int) -> None:
        from ..method.embedder import PixelEmbedder

        self.network, self.parameters, self.folder, self.images = network, parameters, folder, images
        self.raw = PixelEmbedder(parameters["levels"])

    def extract(self, dataset: Dataset) -> tuple[float, float]:
        """Seconds and bytes per image."""
        from ..datasets.samples import Dataset
        from ..method.draw import draw_parameters
        from ..method.progress import fingerprint
        from .extraction import described, extract_image
        from .places import Place
        from .shards import ShardedStore

        few = Dataset(dataset.name, dataset.split, dataset.root, _spread(dataset, self.images))
        checkpoint, precision, widths = described(self.network, self.raw)
        how = {"n_per_class": self.parameters["n_per_class"], "seed": self.parameters["seed"]}
        # the share of each image is that of the whole split
        drawn = draw_parameters(dataset, self.raw, checkpoint=checkpoint, precision=precision, **how)
        place = Place.of(self.folder / dataset.split / "store")
        store = ShardedStore.open_or_create(place, widths, drawn, fingerprint(few))
        rows = {}

        def one(index: int) -> None:
            fingerprint(few[index : index + 1])
            rows[index] = extract_image((index, few[index]), self.network, self.raw, place, widths, drawn)

        seconds = _each(one, len(few))
        store.commit(rows, complete=True)
        self.store, self.few = store, few
        return seconds, _size(place.path or self.folder) / len(few)

    def fit(self, images: int) -> tuple[float, int]:
        """Seconds of the whole fit on so many images, and bytes of its vectors.

        The rows at hand are fitted; time goes with the number of rows and of centres, rounds are taken to be as many.
        """
        from ..method.embedder import PixelEmbedder
        from ..method.kmeans import ClassKMeans

        rows = self.store.load()
        self.embedder = PixelEmbedder(self.parameters["levels"], standardize=True).fit(rows.embeddings)
        x = self.embedder.apply(rows.embeddings)
        clusters, shared = self.parameters["n_clusters"], self.parameters["n_shared"]
        here = np.bincount(rows.label, minlength=NUM_CLASSES)
        there = np.minimum(here * images / len(self.few), self.parameters["n_per_class"])
        self.kmeans = ClassKMeans(clusters)
        by_class = (
            _seconds(lambda: self.kmeans.fit(x, rows.label)) * _products(there, clusters) / _products(here, clusters)
        )
        together, most = 0.0, 20 * shared
        if shared:
            few = x[np.random.default_rng(0).permutation(len(x))[:most]]
            one = ClassKMeans(1, n_init=1, n_shared=shared)
            seconds = _seconds(lambda: one.fit(few, np.zeros(len(few), np.uint8)))
            self.kmeans.n_shared, self.kmeans.shared_centers_ = shared, one.shared_centers_
            few_there = min(int(there.sum()), most)
            together = seconds * few_there * min(shared, few_there // 5) / (len(few) * len(one.shared_centers_))
        self.kmeans.calibrate(x, rows.predicted)
        return by_class + together, int(there.sum()) * x.shape[1] * 4

    def rules(self) -> dict[str, Any]:
        """All rules that the clusters serve."""
        from ..method.refinement import RULES

        return {name: rule() for name, rule in RULES.items() if self.parameters["n_shared"] or name != "surplus"}

    def calibrate(self) -> float:
        """Seconds per image: both calibrations on whole images, each with the network."""
        from ..method.calibration import recalibrate
        from ..method.surplus import calibrate_on_images

        seen = self.network.segmenter(), self.few
        seconds = 0.0
        if self.parameters["n_shared"]:
            seconds = _seconds(lambda: calibrate_on_images(self.kmeans, *seen, self.embedder))
        rules = {name: rule for name, rule in self.rules().items() if hasattr(rule, "recalibration")}

        def ask() -> None:
            with suppress(RefinementError):  # a handful may show no wrong pixel, or lack labels: the time is spent
                recalibrate(rules, *seen, self.kmeans, self.embedder)

        return (seconds + _seconds(ask)) / len(self.few)

    def refine(self, splits: Sequence[Dataset]) -> tuple[float, float, float]:
        """Seconds per image of refining and of counting, and bytes of predictions per image, for all rules."""
        from .refining import count_images, refine_image

        tree, fitted = self.folder / "tree", (self.kmeans, self.embedder)
        few = _spread([(sample, f"{data.name}/{data.split}") for data in splits for sample in data], self.images)
        rules = {"raw": None, **self.rules()}

        def one(index: int) -> None:
            sample, split = few[index]
            refine_image(sample, self.network, rules, *fitted, tree, split)

        def count(index: int) -> None:
            sample, split = few[index]
            for name in rules:
                count_images([sample], tree / name, split)

        return _each(one, len(few)), _each(count, len(few)), _size(tree) / len(few)


def _spread(items: Sequence[Any], number: int) -> list[Any]:
    """So many items, from the first one to the last one."""
    return [items[index] for index in np.unique(np.linspace(0, len(items) - 1, number).astype(int))]


def _each(work: Callable[[int], object], number: int) -> float:
    """Mean seconds per item, without the first one, which warms up (unless it is the only one)."""
    first = _seconds(lambda: work(0))
    return _seconds(lambda: [work(index) for index in range(1, number)]) / (number - 1) if number > 1 else first


def _products(rows: np.ndarray, clusters: int) -> float:
    """What a round of KMeans costs, up to a factor: rows times centres, summed over classes."""
    return float(sum(n * max(1, min(clusters, n // 10)) for n in rows if n))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_words(steps: Sequence[Step], timings: Timings) -> str:
    """The plan as a table, and what it needs of memory."""
    workers = list(steps[-1].seconds)
    header = ["step", "images", *(f"{n} worker{'s' * (n > 1)}" for n in workers), "disk"]
    lines = [
        [step.name, str(step.images or ""), *(_duration(step.seconds[n]) for n in workers), _bytes(step.disk)]
        for step in steps
    ]
    wide = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rows = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, wide, strict=True)).rstrip()
        for line in (header, *lines)
    ]
    each = f"{timings.extract:.2f} s to embed an image, {timings.refine:.2f} s to refine it by all rules"
    memory = f"{_bytes(timings.worker_bytes)} for each worker, {_bytes(timings.fit_bytes)} for the vectors of the fit"
    return "\n".join([*rows, "", f"Measured: {each}.", f"Memory: {memory}."])


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def _bytes(number: float) -> str:
    if number >= GIB / 10:
        return f"{number / GIB:.1f} GiB"
    return f"{number / 2**20:.0f} MiB" if number else ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("profile", help="name of a parameter file, as for iood_helpers.run")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a parameter")
    parser.add_argument("--images", type=int, default=5, help="how many images to time (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8], help="numbers of workers to plan for")
    parser.add_argument("--threads", type=int, help="cores that a worker has; default: all of this machine")
    parser.add_argument("--train-images", type=int, default=0, help="plan for so many images to draw pixels from")
    parser.add_argument("--test-images", type=int, default=0, help="plan for so many images to predict")
    parser.add_argument("--json", type=Path, help="write what was measured, and the plan, to this file")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m iood_helpers.plan", description=__doc__.split("\n\n")[0])
    add_arguments(parser)
    try:
        execute(parser.parse_args(arguments))
    except IoodError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def execute(args: argparse.Namespace) -> None:
    """Run the command."""
    import torch

    try:
        from ..course import parameters as given
        from ..course.runner import all_declared, load_profile
    except ModuleNotFoundError as error:
        raise ParameterError(f"{error}; profiles need the extra [book]: pip install '.[book]'.") from error

    if min(args.images, *args.workers) < 1 or (args.threads is not None and args.threads < 1):
        raise ParameterError("--images, --workers and --threads are 1 or more.")
    if args.threads:
        torch.set_num_threads(args.threads)
    changes = given.parse(args.set)
    given.check(changes, all_declared())
    parameters = given.absolute({**load_profile(args.profile), **changes})
    timings, work = measure(parameters, args.images, Work(args.train_images, 0, args.test_images))
    steps = plan(timings, work, args.workers)
    print(in_words(steps, timings))
    if args.json:
        write_json(args.json, {"timings": asdict(timings), "work": asdict(work), "steps": [s._asdict() for s in steps]})
