"""Refined predictions of a split, and their metrics, by several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..bravo.accumulator import BravoAccumulator
from ..bravo.submission import prediction_paths, read_prediction, write_prediction
from ..datasets.loading import Dataset
from ..errors import ScaleError
from ..io import plain
from ..method.distances import Distances
from ..method.embedder import PixelEmbedder
from ..method.kmeans import ClassKMeans
from .clients import Network, checked_tree, connected, load_everywhere
from .extraction import described
from .places import Place
from .tasks import Failure, OnError, run

if TYPE_CHECKING:
    from ..datasets.samples import Sample
    from ..method.refinement import CalibratedRule, PublishedRule, SurplusRule

    Rule = CalibratedRule | PublishedRule | SurplusRule

BLOCK = 16
"""Images whose counts one task adds up: 1.6 MB go back for all of them."""


def refine(
    network: Network,
    dataset: Dataset,
    rules: Mapping[str, Rule | None],
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    tree: str | Path,
    *,
    client: Any = None,
    on_error: OnError = "stop",
    in_flight: int | None = None,
) -> list[Failure]:
    """Predict every image of a split, refine its confidence by several rules, and write what a submission needs.

    Each image is a task that writes files of its own, each under a temporary name first; an image all of whose files
    are there is done, so that a run that was interrupted goes on. ``<tree>/<rule>/settings.json`` says with what they
    were made, and other settings are refused.

    Parameters
    ----------
    network, dataset
        As for :func:`~iood_helpers.scale.extraction.extract`.
    rules : mapping of str to rule or None
        Rules by name; None leaves the network's confidence as it is.
    kmeans, embedder
        As for ``refine_confidence``.
    tree : str or Path
        Folder that all workers reach; it gets ``<tree>/<rule>/`` with the trees that ``encode_submission`` reads.
    client, on_error, in_flight
        As for :func:`~iood_helpers.scale.extraction.extract`.

    Returns
    -------
    list of Failure
        Images that were skipped.

    Raises
    ------
    ScaleError
        If the tree was made with other settings, or as for ``extract``.
    RefinementError, DatasetError, FileError
        As ``refine_confidence``, images and files ask for it.
    """
    tree, split = checked_tree(tree), f"{dataset.name}/{dataset.split}"
    failures: list[Failure] = []
    with connected(client) as workers:
        if workers is not None:
            load_everywhere(workers, network)
        [(_, (checkpoint, precision, _))] = run(described, [network], client=workers, shared=[embedder])
        learned = {"kmeans": _digest_of(kmeans), "embedder": _digest_of(embedder)}
        for name, rule in rules.items():
            _settle(tree / name, {"checkpoint": checkpoint, "precision": precision, **learned, "rule": repr(rule)})
        todo = [
            sample
            for sample in dataset
            if not all(path.is_file() for name in rules for path in prediction_paths(tree / name, split, sample.name))
        ]
        shared = (network, dict(rules), kmeans, embedder, tree, split)
        flow: dict[str, Any] = {"in_flight": in_flight, "on_error": on_error, "failures": failures, "what": split}
        for _ in run(refine_image, todo, client=workers, shared=shared, **flow):
            pass
    return failures


def refine_image(
    sample: Sample,
    network: Network,
    rules: Mapping[str, Rule | None],
    kmeans: ClassKMeans,
    embedder: PixelEmbedder,
    tree: Path,
    split: str,
) -> None:
    """Write the predictions of one image by all rules; the network sees it once, its distances are measured once."""
    prediction = network.predict(sample.image())
    distances = Distances(prediction, kmeans, embedder)
    for name, rule in rules.items():
        confidence = prediction.confidence if rule is None else rule.apply(prediction, distances)[0]
        write_prediction(tree / name, split, sample.name, prediction.classes, confidence)


def score(
    tree: str | Path, dataset: Dataset, *, client: Any = None, in_flight: int | None = None, progress: bool = True
) -> BravoAccumulator:
    """Count the predictions of a split: what workers have counted is added up.

    Parameters
    ----------
    tree : str or Path
        Folder of predictions of one rule: ``<tree>/<rule>`` of :func:`refine`.
    dataset : Dataset
        Its images and labels.
    client, in_flight
        As for :func:`~iood_helpers.scale.extraction.extract`.
    progress : bool, default=True
        Whether to show a bar.

    Returns
    -------
    BravoAccumulator
        The counts of all images; they are integers, and the same whoever counted.

    Raises
    ------
    SubmissionError
        If a prediction is missing or damaged.
    """
    tree, split = checked_tree(tree), f"{dataset.name}/{dataset.split}"
    total = BravoAccumulator(split)
    blocks = [dataset[start : start + BLOCK] for start in range(0, len(dataset), BLOCK)]
    what = f"score {split}" if progress else None
    with connected(client) as workers:
        done = run(count_images, blocks, client=workers, shared=(tree, split), in_flight=in_flight, what=what)
        for _, counts in done:
            total.merge(counts)
    return total


def count_images(samples: Sequence[Sample], tree: Path, split: str) -> BravoAccumulator:
    """Counts of some images, added up."""
    counts = BravoAccumulator(split)
    for sample in samples:
        classes, levels = read_prediction(tree, split, sample.name)
        counts.update(sample.label(), sample.invalid(), classes, levels, sample.void())
    return counts


def _settle(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new tree; ScaleError if it was made with others."""
    place = Place.of(folder)
    known, settings = place.read_json("settings.json"), plain(settings)
    if known is None:
        place.write_json("settings.json", settings)
    elif known != settings:
        other = [key for key in settings if not isinstance(known, dict) or known.get(key) != settings[key]]
        raise ScaleError(
            f"The predictions {folder} were made with other settings ({', '.join(other)}); choose another folder."
        )


def _digest_of(model: ClassKMeans | PixelEmbedder) -> str:
    """Checksum of what a fitted model has learned: that of the file which it would be saved in."""
    with TemporaryDirectory() as folder:
        return hashlib.sha256(model.save(Path(folder) / "model.safetensors").read_bytes()).hexdigest()
