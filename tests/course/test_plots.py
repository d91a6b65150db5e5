"""Pictures and figures: what they show can be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from iood_helpers.course.plots import OOD_COLOR, mask_overlay, scatter


@pytest.mark.parametrize("ground", [OOD_COLOR, (0, 0, 0), (255, 255, 255), (128, 128, 128)])
def test_a_tinted_region_is_seen_on_any_ground(ground):
    image = np.full((40, 60, 3), ground, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:30] = True
    shown = mask_overlay(image, mask)
    assert (shown[9, 10:30] == 255).all() and (shown[8, 10:30] == 0).all()
    assert (shown[12:18, 12:28] == shown[15, 15]).all()  # the lines leave what is tinted as it is
    assert (shown[25:] == ground).all()


def test_the_lines_are_wider_in_a_larger_picture():
    mask = np.zeros((1000, 600), bool)
    mask[500:, :] = True
    column = mask_overlay(np.full((1000, 600, 3), 90, np.uint8), mask)[:, 300, 0]
    assert (column == 255).sum() == (column == 0).sum() == 2


def test_nothing_is_drawn_where_nothing_is_marked():
    image = np.full((8, 9, 3), 90, np.uint8)
    assert (mask_overlay(image, np.zeros((8, 9), bool)) == image).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_label_has_its_symbol(dimensions):
    points, labels = np.zeros((6, dimensions)), np.array([0, 1, 2, 0, 1, 2])
    names, hover = {0: "a", 1: "b", 2: "c"}, ["pixel"] * 6
    figure = scatter(points, labels, names, None, hover, "title", symbols={1: "x", 2: "square"})
    assert [trace.marker.symbol for trace in figure.data] == ["circle", "x", "square"]
