"""Embeddings on disk: a Zarr group that grows image by image and survives an interruption.

Rows count only once ``progress.json`` says so. It is renamed into place after the rows of an image are written, so a
process that dies leaves at most rows that nobody counts; they are cut off when the store is opened again.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from tqdm.auto import tqdm

from .classes import NUM_CLASSES, VOID
from .embeddings import PixelEmbedder, grid_pixels
from .errors import EmbeddingError
from .files import write_json

if TYPE_CHECKING:
    from .datasets import Dataset
    from .segmenter import Segmenter

FORMAT = 1
CHUNK_BYTES = 4_000_000  # what an image adds to a chunk that is not full rewrites it, so chunks are kept small
MIN_CHUNK_ROWS = 256
COLUMNS = {"label": "u1", "predicted": "u1", "image": "i4", "confidence": "f4", "pixel": "i4", "embeddings": "f4"}


@dataclass(frozen=True)
class Embeddings:
    """Rows of a store in memory.

    Attributes
    ----------
    embeddings
        (n, D) float32.
    label, predicted
        True and predicted train id, (n,) uint8.
    image
        Index into ``EmbeddingStore.names``, (n,) int32.
    pixel
        Row and column in the image, (n, 2) int32.
    confidence
        Maximum soft-max probability, (n,) float32.
    """

    embeddings: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    image: np.ndarray
    pixel: np.ndarray
    confidence: np.ndarray


class EmbeddingStore:
    """Zarr group of pixel embeddings; made by :meth:`create`, reopened by :meth:`open`."""

    def __init__(self, path: Path, progress: dict[str, Any]) -> None:
        self.path = path
        self._progress = progress
        self._group = zarr.open_group(path / "rows.zarr", mode="r+")

    @classmethod
    def create(cls, path: str | Path, dim: int, parameters: dict[str, Any]) -> EmbeddingStore:
        """New empty store, or the existing one if it was made with the same parameters.

        Raises
        ------
        EmbeddingError
            If a store with other parameters is there; the message names them.
        """
        path = Path(path)
        parameters = json.loads(json.dumps({**parameters, "dim": dim}))
        if (path / "progress.json").is_file():
            store = cls.open(path)
            have = store._progress["parameters"]
            other = [k for k in sorted({*have, *parameters}) if have.get(k) != parameters.get(k)]
            if other:
                details = ", ".join(f"{k}: {have.get(k)} instead of {parameters.get(k)}" for k in other)
                raise EmbeddingError(
                    f"The store {path} was made with other parameters ({details}); delete it or choose another folder."
                )
            return store
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        group = zarr.create_group(path / "rows.zarr")
        for name, kind in COLUMNS.items():
            tail = {"pixel": (2,), "embeddings": (dim,)}.get(name, ())
            rows = max(MIN_CHUNK_ROWS, CHUNK_BYTES // (np.dtype(kind).itemsize * math.prod(tail)))
            group.create_array(name, shape=(0, *tail), chunks=(rows, *tail), dtype=kind)
        progress = {"format": FORMAT, "parameters": parameters, "names": [], "rows": 0, "complete": False}
        write_json(path / "progress.json", progress)
        return cls(path, progress)

    @classmethod
    def open(cls, path: str | Path) -> EmbeddingStore:
        """Open a store; rows of an interrupted image are cut off.

        Raises
        ------
        EmbeddingError
            If there is no store, or it is damaged.
        """
        path = Path(path)
        try:
            progress = json.loads((path / "progress.json").read_text())
            if progress["format"] != FORMAT:
                raise EmbeddingError(f"The store {path} has format {progress['format']}; delete it and extract anew.")
            store = cls(path, progress)
            if any(store._group[name].shape[0] < progress["rows"] for name in COLUMNS):
                raise ValueError("rows are missing")
        except (OSError, ValueError, KeyError) as error:
            raise EmbeddingError(
                f"There is no readable embedding store at {path} ({error}); extract the embeddings anew."
            ) from error
        for name in COLUMNS:
            array = store._group[name]
            if array.shape[0] > progress["rows"]:
                array.resize((progress["rows"], *array.shape[1:]))
        return store

    def __len__(self) -> int:
        return self._progress["rows"]

    @property
    def names(self) -> list[str]:
        """Names of the images, in the order of ``Embeddings.image``."""
        return self._progress["names"]

    @property
    def parameters(self) -> dict[str, Any]:
        """What the store was made with."""
        return self._progress["parameters"]

    @property
    def is_complete(self) -> bool:
        """Whether every image of the split has been added."""
        return self._progress["complete"]

    def append(self, name: str, rows: dict[str, np.ndarray]) -> None:
        """Add the rows of one image and count them; ``rows`` has all columns but "image"."""
        number = len(rows["label"])
        rows = {**rows, "image": np.full(number, len(self.names), np.int32)}
        for column in COLUMNS:
            if len(rows[column]) != number:
                raise EmbeddingError(f"Column {column} of image {name} has {len(rows[column])} rows, not {number}.")
        for column, kind in COLUMNS.items():
            self._group[column].append(np.asarray(rows[column], kind))
        self._commit(names=[*self.names, name], rows=len(self) + number)

    def finish(self) -> None:
        """Mark the store as complete."""
        self._commit(complete=True)

    def _commit(self, **changes: Any) -> None:
        self._progress = {**self._progress, **changes}
        write_json(self.path / "progress.json", self._progress)

    def load(self, n_per_class: int | None = None, seed: int = 0) -> Embeddings:
        """Rows in memory, at most ``n_per_class`` of each class that got shares, drawn without replacement."""
        label = self._group[self.parameters.get("per", "label")][: len(self)]
        chosen = np.arange(len(label))
        if n_per_class is not None:
            rng = np.random.default_rng(seed)
            parts = [rng.permutation(np.flatnonzero(label == c))[:n_per_class] for c in range(NUM_CLASSES)]
            chosen = np.sort(np.concatenate(parts))
        return Embeddings(**{name: self._group[name][: len(self)][chosen] for name in COLUMNS})


def extract_embeddings(
    segmenter: Segmenter,
    dataset: Dataset,
    embedder: PixelEmbedder,
    path: str | Path,
    *,
    n_per_class: int = 2000,
    per: Literal["label", "predicted"] = "label",
    oversampling: float = 4.0,
    seed: int = 0,
    progress: bool = True,
) -> EmbeddingStore:
    """Draw pixels of every class over all images of a split and store their embeddings.

    Each image gives at most ``oversampling * n_per_class / images`` pixels per class, at cells of the stride-4 grid;
    the factor makes up for classes that occur in few images. Interrupted and started again, it goes on where it was
    and gives the same store, since each image has its own random stream.

    Parameters
    ----------
    segmenter, dataset, embedder
        What predicts, on which images, and how vectors are made.
    path
        Folder of the store.
    n_per_class
        Pixels per class that the store aims at; ``EmbeddingStore.load`` trims to it.
    per
        Whose classes get equal shares: those of the label, or those that the segmenter says (pixels without a label are
        left out all the same). Images without labels always give pixels per predicted class.
    oversampling
        See above.
    seed
        Seed of the drawing.
    progress
        Whether to show a bar.

    Raises
    ------
    EmbeddingError
        If a store with other parameters is at ``path``, or features hold NaN.
    """
    share = max(1, int(np.ceil(oversampling * n_per_class / len(dataset))))
    parameters = {
        **embedder.parameters,
        "checkpoint": segmenter.checkpoint.sha256,
        "dataset": f"{dataset.name}/{dataset.split}",
        "images": len(dataset),
        "share": share,
        "per": per,
        "sample_seed": seed,
    }
    if segmenter.precision != "float32":
        parameters["precision"] = segmenter.precision
    store: EmbeddingStore | None = None
    if (Path(path) / "progress.json").is_file():
        known = EmbeddingStore.open(path)
        store = EmbeddingStore.create(path, known.parameters["dim"], parameters)
        if store.is_complete:
            return store
    done = len(store.names) if store else 0
    for index in tqdm(
        range(done, len(dataset)), initial=done, total=len(dataset), disable=not progress, desc="extract"
    ):
        sample = dataset[index]
        rows = _draw(segmenter, sample, embedder, share, per, np.random.default_rng((seed, index)))
        if store is None:
            store = EmbeddingStore.create(path, rows["embeddings"].shape[1], parameters)
        store.append(sample.name, rows)
    store.finish()
    return store


def _draw(segmenter, sample, embedder, share: int, per: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    prediction = segmenter.predict(sample.image())
    cells = np.floor(grid_pixels(prediction.logits.shape[1:], prediction.size) + 0.5).astype(np.int32)
    predicted = prediction.classes[cells[:, 0], cells[:, 1]]
    label = sample.label()
    classes = predicted if label is None else label[cells[:, 0], cells[:, 1]]
    shared = np.where(classes == VOID, VOID, predicted) if per == "predicted" else classes
    parts = [rng.permutation(np.flatnonzero(shared == c))[:share] for c in range(NUM_CLASSES)]
    chosen = np.sort(np.concatenate(parts))
    pixel = cells[chosen]
    return {
        "embeddings": embedder.transform(prediction, pixel),
        "label": classes[chosen],
        "predicted": predicted[chosen],
        "confidence": prediction.confidence[pixel[:, 0], pixel[:, 1]],
        "pixel": pixel,
    }
