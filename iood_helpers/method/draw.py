"""Which pixels a store holds: drawn of every class from each image by a random stream of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import MAX_SEED, whole
from ..datasets.labels import NUM_CLASSES, VOID
from ..errors import EmbeddingError
from .embedder import PixelEmbedder, grid_pixels

if TYPE_CHECKING:
    from ..datasets.loading import Dataset
    from ..model.segmenter import Prediction

MAX_ROWS = 10**12


def draw_parameters(
    dataset: Dataset,
    embedder: PixelEmbedder,
    *,
    checkpoint: str,
    precision: str,
    n_per_class: int = 2000,
    per: str = "label",
    oversampling: float = 4.0,
    seed: int = 0,
) -> dict[str, Any]:
    """What a store is made with, as plain values; parameters as of ``extract_embeddings``.

    ``"share"`` is the number of pixels that each image gives of each class. Raises EmbeddingError as
    ``extract_embeddings`` does, for impossible values.
    """
    if not len(dataset):
        raise EmbeddingError(f"There are no images in {dataset.name}/{dataset.split}; nothing can be extracted.")
    if per not in ("label", "predicted") or not 0 < oversampling < np.inf:
        raise EmbeddingError(f"per={per!r} or oversampling={oversampling!r} is impossible; see extract_embeddings.")
    n_per_class = whole("n_per_class", n_per_class, 1, MAX_ROWS, EmbeddingError)
    parameters = {
        **embedder.parameters,
        "checkpoint": checkpoint,
        "dataset": f"{dataset.name}/{dataset.split}",
        "images": len(dataset),
        "share": max(1, int(np.ceil(oversampling * n_per_class / len(dataset)))),
        "per": per,
        "sample_seed": whole("seed", seed, 0, MAX_SEED, EmbeddingError),
    }
    return parameters if precision == "float32" else {**parameters, "precision": precision}


def choose_rows(label: np.ndarray, n_per_class: int, seed: int) -> np.ndarray:
    """Rising numbers of at most so many rows of each class, drawn without replacement: (m,) int64."""
    n_per_class = whole("n_per_class", n_per_class, 0, MAX_ROWS, EmbeddingError)
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.flatnonzero(label == c))[:n_per_class] for c in range(NUM_CLASSES)]
    return np.sort(np.concatenate(parts))


def draw_rows(
    prediction: Prediction,
    label: np.ndarray | None,
    embedder: PixelEmbedder,
    share: int,
    per: str,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Rows of one image, as ``EmbeddingStore.append`` takes them.

    Drawn are whole pixels nearest to the centres of cells; ``label`` is (H, W) uint8 or None, the rest as for
    ``extract_embeddings``.
    """
    cells = np.floor(grid_pixels(prediction.logits.shape[1:], prediction.shape) + 0.5).astype(np.int32)
    predicted = prediction.classes[cells[:, 0], cells[:, 1]]
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
