"""Pictures and figures: what they show can be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from iood_helpers.course.plots import OOD_COLOR, PLOT_PALETTE, class_color, colorize_classes, mask_overlay, scatter
from iood_helpers.datasets.labels import CLASS_NAMES, PALETTE

WHITE, DARK = (255, 255, 255), (20, 24, 30)
"""Grounds of the book's pages; the darkest that a dark page has is darker still."""


def linear(colors):
    """SRGB as amounts of light."""
    share = np.asarray(colors, float) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(colors):
    """CIELAB, white as of D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.moveaxis(linear(colors) @ to_xyz.T / [0.9505, 1, 1.089], -1, 0)
    x, y, z = (np.where(v > 216 / 24389, np.cbrt(v), (24389 / 27 * v + 16) / 116) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def contrast(colors, ground):
    """Contrast of WCAG 2."""
    light, dark = (linear(c) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (colors, np.asarray(ground)))
    return np.maximum(light / dark, dark / light)


def test_the_colors_of_plots_are_told_apart_on_light_and_on_dark_pages():
    places = lab(np.concatenate([PLOT_PALETTE, [WHITE, DARK]]))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e3 * np.eye(len(places))  # Delta E of 1976
    near = np.unravel_index(apart.argmin(), apart.shape)
    assert apart.min() > 15, near
    assert contrast(PLOT_PALETTE, DARK).min() > 3  # WCAG 2, for what is no text
    changed = (PLOT_PALETTE != PALETTE).any(axis=1)
    assert contrast(PLOT_PALETTE[changed], WHITE).min() > 3 and contrast(PLOT_PALETTE, WHITE).min() > 1.2
    assert (contrast(PALETTE, DARK)[changed] < 3).all()  # no color is another one without need
    vehicles = [CLASS_NAMES.index(name) for name in ("car", "truck", "bus", "train", "motorcycle")]
    assert apart[np.ix_(vehicles, vehicles)].min() > 20


def test_class_maps_keep_the_colors_of_the_field():
    assert (colorize_classes(np.arange(19)[None])[0] == PALETTE).all()
    assert (
        class_color(13) == "rgb(48,96,220)"
        and class_color(0) == "rgb(145,78,145)"
        and class_color(12) == "rgb(255,0,0)"
    )


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
