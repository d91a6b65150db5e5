"""From a picture to its three maps, and from pixels to what is normal: all that the command uses of the method."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..datasets.samples import Sample
from ..errors import ClusteringError, IoodError
from ..io import data_dir
from ..method.embedder import PixelEmbedder
from ..method.fitted import load_fitted, save_fitted
from ..method.kmeans import ClassKMeans
from ..method.refinement import Distances, refine_confidence, upsample
from ..method.store import EmbeddingStore
from ..method.surplus import calibrate_on_images
from ..model.checkpoints import SHIPPED, file_sha256
from ..model.precision import Choice
from ..model.segmenter import Segmenter, load_segmenter

RULE: Literal["surplus"] = "surplus"
BOUND = 20.0
"""Largest penalty: that for photographs. Statistics may carry another one, as those of rendered scenes do."""
FAR = 2.326
"""Standard deviations above the mean that one calibration cell in a hundred exceeds, if they are Gaussian."""
DEFAULT = "DEFAULT"
"""Statistics that ship beside the checkpoint of the same name."""
KIND = "Statistics"
LEVELS = (0, 2, "decoder")


@dataclass(frozen=True)
class Look:
    """What a picture of H x W pixels looks like to a network and its statistics.

    Attributes
    ----------
    classes : ndarray of uint8, shape (H, W)
        Train ids 0..18.
    confidence : ndarray of float32, shape (H, W)
        Refined, 0..1.
    novelty : ndarray of float32, shape (H, W)
        Distance above the mean of calibration cells, 0 and up; above 1 is farther than 99 % of a Gaussian.
    """

    classes: np.ndarray
    confidence: np.ndarray
    novelty: np.ndarray

    @property
    def unknown(self) -> np.ndarray:
        """Pixels, (H, W) bool, whose class is more likely wrong than right, and which lie far from what is normal."""
        return (self.confidence < 0.5) & (self.novelty > 1)


@dataclass(frozen=True)
class Statistics:
    """What is normal to one network: clusters, the embedder whose vectors they were fitted on, and where they are from.

    Attributes
    ----------
    kmeans : ClassKMeans
        Fitted and calibrated.
    embedder : PixelEmbedder
    about : Mapping
        Plain values: ``checkpoint`` (SHA-256), ``precision``, and whatever else is worth knowing.
    source : str
        The file's name for messages.
    """

    kmeans: ClassKMeans
    embedder: PixelEmbedder
    about: Mapping[str, Any] = field(default_factory=dict)
    source: str = "These statistics"

    def save(self, path: str | Path) -> Path:
        """Write one file that holds both; the same statistics give the same bytes.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        with tempfile.TemporaryDirectory() as folder:
            arrays = {
                part: np.frombuffer(fitted.save(Path(folder) / f"{part}.safetensors").read_bytes(), np.uint8)
                for part, fitted in (("kmeans", self.kmeans), ("embedder", self.embedder))
            }
        return save_fitted(path, KIND, arrays, about=dict(self.about))

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read what :meth:`save` wrote, or the ``kmeans.safetensors`` of a run folder with the embedder beside it.

        Raises
        ------
        ClusteringError
            If the file is missing, damaged or of another kind.
        """
        path = Path(path).expanduser()
        if path.name == "kmeans.safetensors" and (path.parent / "embedder.safetensors").is_file():
            embedder = PixelEmbedder.load(path.parent / "embedder.safetensors")
            return cls(ClassKMeans.load(path), embedder, source=str(path))
        try:
            arrays, content = load_fitted(path, KIND, ("about",))
            with tempfile.TemporaryDirectory() as folder:
                files = {part: Path(folder) / f"{part}.safetensors" for part in ("kmeans", "embedder")}
                for part, file in files.items():
                    file.write_bytes(arrays[part].tobytes())
                kmeans, embedder = ClassKMeans.load(files["kmeans"]), PixelEmbedder.load(files["embedder"])
            if not isinstance(content["about"], dict):
                raise ValueError("it does not say where it is from")
        except (ValueError, KeyError, IoodError) as error:
            raise ClusteringError(
                f"The file {path} holds no statistics ({error}); make it with iood fit, or give the "
                "kmeans.safetensors of a run folder."
            ) from error
        return cls(kmeans, embedder, content["about"], str(path))


def default_statistics(model: str) -> Path:
    """File of the statistics that ship with a network.

    Raises
    ------
    ClusteringError
        If none ship with it.
    """
    path = data_dir() / "checkpoints" / f"{model}.statistics.safetensors"
    if model not in SHIPPED or not path.is_file():
        shipped = [name for name in SHIPPED if path.with_name(f"{name}.statistics.safetensors").is_file()]
        raise ClusteringError(
            f"No statistics ship for {model}, only for {', '.join(shipped) or 'no network'}; make some with "
            f"iood fit FOLDER --model {model}, of pictures that show what is normal, and give them as --kmeans."
        )
    return path


class Pipeline:
    """A network with statistics of what is normal to it.

    Parameters
    ----------
    segmenter : Segmenter
    statistics : Statistics

    Raises
    ------
    ClusteringError
        If the statistics are those of another network or precision, or were not calibrated on images.
    """

    def __init__(self, segmenter: Segmenter, statistics: Statistics) -> None:
        self.segmenter, self.statistics = segmenter, statistics
        usual = statistics.kmeans.statistics_
        if usual is None:
            raise ClusteringError(f"{statistics.source} does not say how far is usual; fit anew with iood fit.")
        self._usual = usual
        own = network(segmenter)
        other = [name for name in own if statistics.about.get(name, own[name]) != own[name]]
        if other:
            raise ClusteringError(
                f"{statistics.source} was fitted with another {' and '.join(other)} than that of "
                f"{segmenter.checkpoint.path.name}; choose the network that it belongs to, or fit anew with iood fit."
            )

    @classmethod
    def load(cls, model: str, kmeans: str = DEFAULT, **options: Any) -> Pipeline:
        """The network called ``model``, and statistics from a file or those that ship with it.

        With ``precision="auto"`` the network gets the precision in which the statistics were fitted, if they tell it.
        """
        path = default_statistics(model) if kmeans == DEFAULT else Path(kmeans)
        statistics = Statistics.load(path)  # first: it takes less time than a network
        if options.get("precision") == "auto":
            options["precision"] = statistics.about.get("precision", "auto")
        return cls(load_network(model, **options), statistics)

    def look(self, picture: np.ndarray) -> Look:
        """The maps of an RGB picture (H, W, 3) uint8."""
        prediction = self.segmenter.predict(picture)
        kmeans, embedder = self.statistics.kmeans, self.statistics.embedder
        distances = Distances(prediction, kmeans, embedder)
        bound = float(self.statistics.about.get("bound", BOUND))
        confidence, _ = refine_confidence(prediction, kmeans, embedder, RULE, distances=distances, bound=bound)
        usual = self._usual
        excess = (distances.averaged(usual.smooth, usual.segment) - usual.mean) / (FAR * usual.std)
        return Look(prediction.classes, confidence, upsample(np.maximum(excess, 0), prediction.shape))


def load_network(model: str, device: str = "auto", precision: Choice = "float32") -> Segmenter:
    """The network called ``model``: a known name, a path or an address."""
    return load_segmenter(model, device=device, precision=precision)


def network(segmenter: Segmenter) -> dict[str, str]:
    """What statistics must have in common with the network that they are used with."""
    return {"checkpoint": segmenter.checkpoint.sha256, "precision": segmenter.precision}


def learn(
    fit: EmbeddingStore,
    calibration: EmbeddingStore,
    segmenter: Segmenter,
    held_out: Iterable[Sample],
    *,
    n_per_class: int,
    n_clusters: int,
    n_shared: int,
    seed: int,
    about: Mapping[str, Any],
) -> Statistics:
    """What is normal, from pixels of pictures and, to calibrate, of other pictures; classes are the stores' labels.

    Parameters
    ----------
    fit, calibration : EmbeddingStore
        Pixels to fit clusters on, and pixels that say how far is far.
    segmenter : Segmenter
        The network that the pixels are from; sees each held-out picture once.
    held_out : iterable of Sample
        The pictures that ``calibration`` is made of.
    n_per_class : int
        Pixels of each class that are used.
    n_clusters : int
        Centres per class.
    n_shared : int
        Centres that all classes share.
    seed : int
        Seed of the draw and of the clusters.
    about : Mapping
        Plain values that the statistics shall carry.

    Raises
    ------
    ClusteringError
        If there is nothing to learn from.
    """
    levels = fit.levels
    rows = fit.load(n_per_class, seed, levels=levels)
    embedder = PixelEmbedder(levels, standardize=True).fit(rows.embeddings)
    kmeans = ClassKMeans(n_clusters, n_shared=n_shared, random_state=seed)
    kmeans.fit(embedder.apply(rows.embeddings), rows.label)
    rows = calibration.load(n_per_class, seed, levels=levels)
    kmeans.calibrate(embedder.apply(rows.embeddings), rows.predicted)
    calibrate_on_images(kmeans, segmenter, held_out, embedder)
    return Statistics(kmeans, embedder, about)


def fingerprint(pipeline: Pipeline) -> dict[str, str]:
    """What the maps of a picture depend on, beside the picture."""
    kmeans = Path(pipeline.statistics.source)
    return {**network(pipeline.segmenter), "statistics": file_sha256(kmeans), "rule": RULE}
