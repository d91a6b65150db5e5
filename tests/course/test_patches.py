"""Cuttings of images: the pixel in the middle, at one size, in their places on a sheet."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from iood_helpers.course.patches import cut_patch, images_of, sheet
from iood_helpers.errors import DatasetError


@pytest.mark.parametrize("pixel", [(0, 0), (5, 99), (20, 50), (39, 3)])
def test_the_pixel_is_in_the_middle_and_borders_are_repeated(pixel):
    image = np.random.default_rng(0).integers(0, 256, (40, 100, 3)).astype(np.uint8)
    patch = cut_patch(image, pixel)
    assert patch.shape == (24, 24, 3) and (patch[12, 12] == image[pixel]).all()
    padded = np.pad(image, ((12, 12), (12, 12), (0, 0)), mode="edge")
    assert (patch == padded[pixel[0] : pixel[0] + 24, pixel[1] : pixel[1] + 24]).all()


def test_a_patch_of_a_large_image_shows_as_large_a_part_of_it():
    image = np.zeros((1024, 2048, 3), np.uint8)
    image[436:564, 936:1064] = 200  # a sixteenth of the width
    assert cut_patch(image, (500, 1000)).min() > 150 and cut_patch(image, (500, 1064)).min() == 0


@pytest.mark.parametrize("count", [1, 5, 9])
def test_pictures_lie_on_the_sheet_row_by_row(count):
    pictures = [np.full((2, 3, 3), 10 * i, np.uint8) for i in range(count)]
    out, columns = sheet(pictures)
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        assert (out[2 * row : 2 * row + 2, 3 * column : 3 * column + 3] == picture).all()


def test_an_image_that_is_gone_is_named():
    store = SimpleNamespace(parameters={"dataset": "mini/val"}, names=["mini/gone"], path="store.zarr")
    with pytest.raises(DatasetError, match="mini/gone of store.zarr is not in mini/val"):
        images_of(store, [0])
