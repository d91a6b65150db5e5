"""Run folders: what an earlier notebook leaves for a later one, and which scenes there are to show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..bravo.protocol import OOD_SUBSETS
from ..datasets.loading import Sample, load_dataset
from ..errors import ArtifactError, FileError
from ..io import write_json

if TYPE_CHECKING:
    from ..method.embedder import PixelEmbedder
    from ..method.kmeans import ClassKMeans
    from ..method.store import EmbeddingStore

ROOT = Path(__file__).resolve().parent.parent.parent


def run_folder(run_dir: str | Path) -> Path:
    """Folder of a run, made if missing; a relative path counts from the root of the repository, ``~`` is the user's.

    Raises
    ------
    FileError
        If it cannot be made.
    """
    folder = ROOT / Path(run_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", error)
        raise FileError(f"The run folder {str(folder)!r} cannot be made ({reason}); choose another.") from error
    return folder


def artifact(path: str | Path, made_by: str) -> Path:
    """Path of something that an earlier notebook leaves.

    Raises
    ------
    ArtifactError
        If it is not there; the message names the notebook and the command that make it.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(
            f"{path} is missing; the notebook {made_by} makes it: python -m iood_helpers.run --only {made_by[:2]}"
        )
    return path


class Run:
    """What a run folder holds, opened when asked for; PyTorch is loaded with the first of it.

    Attributes
    ----------
    folder : Path
        The run folder.
    embeddings, calibration : EmbeddingStore
        Pixels to fit on, and pixels of the calibration images; notebook 02 makes them.
    embedder : PixelEmbedder
        Scaled on the pixels to fit on, by notebook 02.
    kmeans : ClassKMeans
        Fitted and calibrated, by notebook 04.
    left_out : dict of int to ClassKMeans
        Where it was calibrated on the images of its fit: by an image's number, clusters that have not seen it.
    predictions : Path
        A tree of predictions for each rule, by notebook 05.

    Raises
    ------
    ArtifactError
        By each attribute but ``folder``, if its file is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def embeddings(self) -> EmbeddingStore:
        return self._store("embeddings")

    @cached_property
    def calibration(self) -> EmbeddingStore:
        return self._store("calibration")

    @cached_property
    def embedder(self) -> PixelEmbedder:
        from ..method.embedder import PixelEmbedder

        return PixelEmbedder.load(artifact(self.folder / "embedder.safetensors", made_by="02_extract_embeddings"))

    @cached_property
    def kmeans(self) -> ClassKMeans:
        from ..method.kmeans import ClassKMeans

        return ClassKMeans.load(artifact(self.folder / "kmeans.safetensors", made_by="04_fit_kmeans"))

    @property
    def left_out(self) -> dict[int, ClassKMeans]:
        from ..method.kmeans import ClassKMeans

        return {int(path.stem): ClassKMeans.load(path) for path in (self.folder / "left_out").glob("*.safetensors")}

    def save_clusters(self, kmeans: ClassKMeans, left_out: Mapping[int, ClassKMeans]) -> None:
        """Leave ``kmeans`` and ``left_out`` for later notebooks, in place of those of an earlier run."""
        shutil.rmtree(self.folder / "left_out", ignore_errors=True)
        for number, model in left_out.items():
            model.save(self.folder / "left_out" / f"{number}.safetensors")
        kmeans.save(self.folder / "kmeans.safetensors")

    @property
    def predictions(self) -> Path:
        return artifact(self.folder / "predictions", made_by="05_refine_confidences")

    def _store(self, name: str) -> EmbeddingStore:
        from ..method.store import EmbeddingStore

        return EmbeddingStore.open(artifact(self.folder / f"{name}.zarr", made_by="02_extract_embeddings"))


def load_run(run_dir: str | Path) -> Run:
    """The run folder (made if missing, as :func:`run_folder` does) and what earlier notebooks left in it."""
    return Run(run_folder(run_dir))


def with_unknown_objects(
    splits: Sequence[str], data_root: str | Path | None = None, limit: int | None = None
) -> list[str]:
    """Those of some splits that have masks of unknown objects: the benchmark's two subsets, or else any; maybe none."""
    official = [split for split in splits if split.split("/")[1] in OOD_SUBSETS]
    return [
        split
        for split in official or splits
        if any(sample.invalid().any() for sample in load_dataset(split, root=data_root, limit=limit or 20))
    ]


def scene_to_show(split: str, data_root: str | Path | None = None, share: float = 0.02) -> Sample:
    """The first scene of a split of which unknown objects cover more than a share; else the first one."""
    scenes = load_dataset(split, root=data_root)
    return next((scene for scene in scenes if scene.invalid().mean() > share), scenes[0])


def left_out(what: str) -> None:
    """Say in one sentence what a notebook does not show, since the data at hand have no labels for it."""
    print(f"Left out, since there are no labels for it here: {what}.")


def write_metrics(run: Path, notebook: str, metrics: Mapping[str, float | None]) -> None:
    """Write a notebook's metrics to ``metrics/<notebook>.json`` in the run folder."""
    write_json(Path(run) / "metrics" / f"{notebook}.json", dict(metrics))


def read_metrics(run: Path, notebook: str) -> dict[str, float | None]:
    """Read what :func:`write_metrics` wrote; ArtifactError if it is missing or damaged."""
    path = artifact(Path(run) / "metrics" / f"{notebook}.json", made_by=notebook)
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged; the notebook {notebook} makes it anew.") from error
    if not isinstance(metrics, dict) or not all(
        value is None or type(value) in (int, float) for value in metrics.values()
    ):
        raise ArtifactError(f"{path} is damaged; the notebook {notebook} makes it anew.")
    return metrics
