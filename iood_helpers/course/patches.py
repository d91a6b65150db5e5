"""Small cuttings of images, many on one sheet: what figures to touch show of a pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from ..datasets.loading import load_dataset
from ..datasets.samples import Sample
from ..errors import DatasetError
from ..method.store import EmbeddingStore

PATCH = 24
"""Pixels on each side of a patch."""
SHARE = 16
"""A patch shows this fraction of the width of its image, and never less than its own size in pixels."""


def cut_patch(image: np.ndarray, pixel: Sequence[int]) -> np.ndarray:
    """Surroundings of a pixel, which is in their middle; at borders the last pixels are repeated.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8.
    pixel : sequence of int
        Row and column.

    Returns
    -------
    numpy.ndarray
        (24, 24, 3) uint8: as many pixels of the image, or a sixteenth of its width, scaled down.
    """
    size = max(PATCH, round(image.shape[1] / SHARE))
    rows, columns = (
        np.clip(np.arange(at - size // 2, at - size // 2 + size), 0, length - 1)
        for at, length in zip(pixel, image.shape, strict=False)
    )
    return scaled(image[rows[:, None], columns], (PATCH, PATCH))


def scaled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) uint8 at another size (h, w)."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def sheet(pictures: Sequence[np.ndarray] | np.ndarray) -> tuple[np.ndarray, int]:
    """Pictures of one size (h, w, 3) uint8, row by row on a sheet about as wide as high in numbers; and its columns."""
    columns = max(1, int(np.ceil(np.sqrt(len(pictures)))))
    height, width = pictures[0].shape[:2]
    out = np.zeros((-(-len(pictures) // columns), columns, height, width, 3), np.uint8)
    for number, picture in enumerate(pictures):
        out[divmod(number, columns)] = picture
    return out.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, 3), columns


def images_of(store: EmbeddingStore, numbers: Iterable[int], root: str | None = None) -> Mapping[int, Sample]:
    """The images that rows of a store are of, by their numbers in ``Embeddings.image``.

    Raises
    ------
    DatasetError
        If the data set that the store was made of, below ``root``, no longer has them.
    """
    name = store.parameters["dataset"]
    samples = {sample.name: sample for sample in load_dataset(name, root=root)}
    wanted = {int(number): store.names[number] for number in numbers}
    if missing := [image for image in wanted.values() if image not in samples]:
        raise DatasetError(
            f"The image {missing[0]} of {store.path} is not in {name} any more; extract embeddings anew."
        )
    return {number: samples[image] for number, image in wanted.items()}
