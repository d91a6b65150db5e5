"""The whole experiment of a profile: embeddings, clusters, calibration, predictions, metrics; with or without Dask.

    iood experiment mini --workers 2
    iood experiment cityscapes_bravo --scheduler tcp://10.0.0.1:8786

It leaves what the notebooks leave in the run folder, so that they go on from there (06 evaluates ``predictions/``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..bravo.metrics import bravo_aggregates, subset_metrics
from ..bravo.protocol import expand_splits
from ..datasets.loading import load_dataset
from ..errors import ParameterError, ScaleError
from ..io import write_json
from ..method.calibration import Recalibration, recalibrate
from ..method.embedder import PixelEmbedder
from ..method.kmeans import ClassKMeans
from ..method.refinement import CalibratedRule, FusedRule, PublishedRule, SurplusRule
from ..method.surplus import calibrate_on_images
from .clients import Network, connected
from .extraction import extract
from .fitting import fit
from .refining import refine, score

SETTINGS = (
    *("checkpoint", "precision", "train_split", "calibration_split", "test_splits", "data_root", "limit", "levels"),
    *("n_per_class", "n_clusters", "n_shared", "recalibration_images", "strength", "smooth", "bound", "seed"),
)
"""Parameters of a profile on which the result depends."""
REMEDY = "profiles and run folders need the extra [book]: pip install '.[book]' in the checkout"


def run_experiment(
    parameters: Mapping[str, Any], *, client: Any = None, on_error: Literal["stop", "skip"] = "stop"
) -> dict[str, dict[str, Any]]:
    """Run all steps of a profile, and leave them in its run folder; interrupted and started again, it goes on.

    Images are spread over the workers to embed, to predict and to count them, and vectors to fit the centres. The
    calibration images (``recalibration_images`` of them, twice) go through the network of this process.

    Parameters
    ----------
    parameters : mapping
        Those of a profile (``iood_helpers.course.runner.load_profile``), with absolute paths.
    client : None, str, Client or cluster
        As for :func:`~iood_helpers.scale.clients.connected`.
    on_error : {"stop", "skip"}
        Whether a damaged image stops the run or is left out, as in :func:`~iood_helpers.scale.extraction.extract`.
        Metrics need all predictions of a split: one with skipped images is not evaluated.

    Returns
    -------
    dict of str to dict
        By rule: metrics of every subset with labels or masks (``"ACDCfog_auroc_valid"``), and their aggregates; also
        in ``experiment.json``.

    Raises
    ------
    ScaleError
        If the run folder holds an experiment with other parameters, one whose record is damaged, or notebooks' results.
    ParameterError
        If the extra [book] is not installed.
    IoodError
        As the steps do.
    """
    try:
        from ..course.artifacts import load_run
    except ModuleNotFoundError as error:
        raise ParameterError(f"{error}; {REMEDY}.") from error
    run = load_run(parameters["run_dir"])
    _settle(run.folder / "experiment-settings.json", {name: parameters[name] for name in SETTINGS})
    network = Network(parameters["checkpoint"], precision=parameters["precision"])
    with connected(client) as workers:
        where: dict[str, Any] = {"client": workers, "on_error": on_error}
        kmeans, embedder, left_out = _learned(parameters, network, run, where)
        rules = _rules(parameters, network, run, kmeans, embedder, left_out)
        found: dict[str, dict[str, Any]] = {name: {} for name in rules}
        for split in expand_splits(parameters["test_splits"]):
            data = load_dataset(split, root=parameters["data_root"], limit=parameters["limit"])
            skipped = refine(network, data, rules, kmeans, embedder, run.folder / "predictions", **where)
            if skipped or not any(sample.label_path or sample.invalid_path for sample in data):
                continue
            for name in rules:
                counts = score(run.folder / "predictions" / name, data, client=workers)
                found[name] |= subset_metrics(split, counts)
    found = {name: {**row, **bravo_aggregates(row)} for name, row in found.items()}
    write_json(run.folder / "experiment.json", found)
    return found


def _settle(path: Path, settings: Mapping[str, Any]) -> None:
    """Record the parameters, or refuse others than those recorded."""
    if not path.exists():
        if any((path.parent / name).exists() for name in ("kmeans.safetensors", "predictions")):
            raise ScaleError(f"{path.parent} holds a run of the notebooks; choose another run_dir.")
        write_json(path, dict(settings))
        return
    recorded = _recorded(path)
    if recorded != {**settings}:
        differing = ", ".join(name for name in settings if recorded.get(name) != settings[name])
        raise ScaleError(f"{path.parent} holds an experiment with another {differing}; choose another run_dir.")


def _recorded(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ScaleError(f"{path} is damaged; choose another run_dir, or remove this one.") from error


def _learned(
    parameters: Mapping[str, Any], network: Network, run: Any, where: Mapping[str, Any]
) -> tuple[ClassKMeans, PixelEmbedder, dict[int, ClassKMeans]]:
    """Clusters, calibrated, and the embedder, as notebooks 02 and 04 leave them."""
    if (run.folder / "kmeans.safetensors").is_file():  # written last
        return run.kmeans, run.embedder, run.left_out
    sample = {"n_per_class": parameters["n_per_class"], "seed": parameters["seed"]}
    raw = PixelEmbedder(parameters["levels"])
    images = {"root": parameters["data_root"], "limit": parameters["limit"]}
    stores = []
    for split, per in (("train_split", "label"), ("calibration_split", "predicted")):
        address = run.folder / "shards" / split
        stores.append(
            extract(network, load_dataset(parameters[split], **images), raw, address, per=per, **sample, **where)
        )
    rows, calibration = (store.load(**sample) for store in stores)
    embedder = PixelEmbedder(raw.levels, standardize=True).fit(rows.embeddings)
    start = ClassKMeans(parameters["n_clusters"], n_shared=parameters["n_shared"], random_state=parameters["seed"])
    kmeans = fit(start, stores[0], embedder, **sample, client=where["client"])
    left_out = {}
    if parameters["calibration_split"] == parameters["train_split"]:
        left_out = kmeans.leaving_out(embedder.apply(rows.embeddings), rows.label, rows.image)
    kmeans.calibrate(embedder.apply(calibration.embeddings), calibration.predicted, calibration.image, left_out)
    if parameters["n_shared"]:
        calibrate_on_images(kmeans, network.segmenter(), _calibration(parameters), embedder, left_out=left_out)
    embedder.save(run.folder / "embedder.safetensors")
    run.save_clusters(kmeans, left_out)
    return kmeans, embedder, left_out


def _calibration(parameters: Mapping[str, Any]) -> Any:
    few = parameters["recalibration_images"] or parameters["limit"]
    return load_dataset(parameters["calibration_split"], root=parameters["data_root"], limit=few)


def _rules(
    parameters: Mapping[str, Any],
    network: Network,
    run: Any,
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    left_out: Mapping[int, ClassKMeans],
) -> dict[str, Any]:
    """The rules of notebook 05, recalibrated."""
    smooth = parameters["smooth"]
    rules: dict[str, Any] = {
        "calibrated": CalibratedRule(strength=parameters["strength"], smooth=smooth),
        "fused": FusedRule(smooth=smooth),
    }
    if parameters["n_shared"]:
        rules["surplus"] = SurplusRule(bound=parameters["bound"])
    path = run.folder / "recalibration.json"
    if path.is_file():
        shapes = _recorded(path)
        rules = {name: replace(rule, recalibration=Recalibration(**shapes[name])) for name, rule in rules.items()}
    else:
        ask = network.segmenter(), _calibration(parameters), kmeans, embedder
        rules = recalibrate(rules, *ask, left_out=left_out)
        write_json(path, {name: asdict(rule.recalibration) for name, rule in rules.items()})
    return {"raw": None, "published": PublishedRule(), **rules}


@contextmanager
def _workers(number: int | None, scheduler: str | None) -> Iterator[Any]:
    """What the command line asks for, as ``client=``."""
    if not number:
        yield scheduler
        return
    try:
        from distributed import LocalCluster
    except ModuleNotFoundError as error:
        raise ScaleError(f"{error}; workers need the extra [scale]: pip install '.[scale]' in the checkout.") from error
    with LocalCluster(n_workers=number, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        print(f"Dask's dashboard: {cluster.dashboard_link}")
        yield cluster


def in_words(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The aggregates of each rule, a line each."""
    keys = ("semantic_hmean", "ood_hmean", "bravo_index")
    lines = [f"{'':<12}{'semantic':>9}{'OOD':>9}{'index':>9}"]
    for name, row in found.items():
        lines.append(f"{name:<12}" + "".join(f"{row.get(key, np.nan):9.4f}" for key in keys))
    return "\n".join(lines).replace("nan", "  -")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("profile", help="name of a parameter file, as for iood_helpers.run")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a parameter")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, help="so many processes of this machine (default: this one alone)")
    where.add_argument("--scheduler", help="address of a Dask scheduler, as in tcp://10.0.0.1:8786")
    parser.add_argument("--skip-damaged", action="store_true", help="leave out images that cannot be read")


def execute(args: argparse.Namespace) -> None:
    """Run the command."""
    try:
        from ..course import parameters as given
        from ..course.runner import all_declared, load_profile
    except ModuleNotFoundError as error:
        raise ParameterError(f"{error}; {REMEDY}.") from error

    if args.workers is not None and args.workers < 1:
        raise ParameterError("--workers is 1 or more.")
    changes = given.parse(args.set)
    given.check(changes, all_declared())
    parameters = given.absolute({**load_profile(args.profile), **changes})
    with _workers(args.workers, args.scheduler) as client:
        found = run_experiment(parameters, client=client, on_error="skip" if args.skip_damaged else "stop")
    print(in_words(found))
