"""Pictures and Plotly figures of the course: arrays in, something to look at out.

Pictures are (H, W, 3) uint8 arrays for ``display.show_images``; figures are Plotly figures for ``display.show``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.colors
import plotly.graph_objects as go
from scipy.ndimage import binary_dilation

from ..datasets.labels import CLASS_NAMES, PALETTE, VOID
from ..renamed import old_names

OOD_COLOR = (0, 200, 255)
"""RGB of unknown objects wherever they are marked: unlike every class, and seen on a red bus."""
_LIGHTER = {
    "road": (145, 78, 145),
    "building": (101, 101, 101),
    "car": (48, 96, 220),
    "truck": (135, 125, 225),
    "bus": (119, 128, 148),
    "train": (0, 120, 135),
    "motorcycle": (104, 58, 255),
    "bicycle": (154, 78, 86),
}
PLOT_PALETTE = np.array([_LIGHTER.get(c, rgb) for c, rgb in zip(CLASS_NAMES, PALETTE.tolist(), strict=True)], np.uint8)
"""RGB colour of each train id for points and bars, shape (19, 3), uint8: those of ``PALETTE``, but lighter where they
are too dark for a dark page. Class maps keep the field's colours."""
LEGEND = {"orientation": "h", "y": -0.2, "yanchor": "top"}
METHOD_COLORS = {
    "raw": "#7f8fa6",
    "averaged": "#5b8def",
    "published": "#e1a32a",
    "calibrated": "#2a9d8f",
    "fused": "#d1495b",
    "surplus": "#6a5acd",
}


def colorize_classes(classes: np.ndarray) -> np.ndarray:
    """Class map (H, W) of train ids in the Cityscapes colours; void is white."""
    colors = np.full((256, 3), 255, dtype=np.uint8)
    colors[: len(PALETTE)] = PALETTE
    return colors[classes]


def colorize_values(values: np.ndarray, low: float = 0.0, high: float = 1.0, scale: str = "Cividis") -> np.ndarray:
    """Map of numbers (H, W) as colours: ``low`` dark, ``high`` bright, clipped outside."""
    steps = np.array(
        [
            plotly.colors.unlabel_rgb(c)
            for c in plotly.colors.sample_colorscale(scale, np.linspace(0, 1, 256), colortype="rgb")
        ]
    ).astype(np.uint8)
    span = np.clip((np.asarray(values, dtype=np.float64) - low) / (high - low), 0, 1)
    return steps[np.round(span * 255).astype(int)]


def mask_overlay(
    image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int] = OOD_COLOR, strength: float = 0.6
) -> np.ndarray:
    """Image (H, W, 3) with the pixels of ``mask`` (H, W bool) tinted, and a white and a black line around them.

    One of the two lines is seen on any ground, also where what is tinted has the colour of the tint.
    """
    out = image.astype(np.float64)
    out[mask] = (1 - strength) * out[mask] + strength * np.array(color)
    width = max(1, round(min(mask.shape) / 250))
    white = binary_dilation(mask, iterations=width)
    black = binary_dilation(white, iterations=width)
    out[black & ~mask] = 0
    out[white & ~mask] = 255
    return out.round().astype(np.uint8)


def class_overlay(image: np.ndarray, classes: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """Image (H, W, 3) tinted with the colours of its class map; void stays as it is."""
    tinted = (1 - strength) * image + strength * colorize_classes(classes)
    return np.where((classes == VOID)[..., None], image, tinted.round()).astype(np.uint8)


def class_color(train_id: int) -> str:
    """CSS colour of a train id for points and bars, on light and on dark pages (``PLOT_PALETTE``)."""
    return "rgb({},{},{})".format(*PLOT_PALETTE[train_id])


def class_bars(values: Sequence[float], title: str, axis: str) -> go.Figure:
    """One horizontal bar for each of the 19 classes, sorted; classes with NaN are left out."""
    order = [c for c in np.argsort(values) if np.isfinite(values[c])]
    figure = go.Figure(
        go.Bar(
            x=[values[c] for c in order],
            y=[CLASS_NAMES[c] for c in order],
            orientation="h",
            marker={"color": [class_color(c) for c in order], "line": {"color": "#888", "width": 1}},
            hovertemplate="%{y}: %{x:.3g}<extra></extra>",
        )
    )
    return figure.update_layout(title=title, xaxis_title=axis, height=160 + 20 * len(order), margin={"l": 110})


def labelled_bars(values: Mapping[str, float], title: str, axis: str) -> go.Figure:
    """One horizontal bar for each name, from top to bottom, with its number."""
    figure = go.Figure(
        go.Bar(
            x=list(values.values()),
            y=list(values),
            orientation="h",
            text=[f"{v:.3f}" for v in values.values()],
            marker_color="#2a9d8f",
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(title=title, xaxis_title=axis, height=140 + 32 * len(values))


def grouped_bars(
    table: Mapping[str, Mapping[str, float]], title: str, axis: str, *, horizontal: bool = False
) -> go.Figure:
    """Bars of several methods side by side: ``{method: {group: value}}``; horizontal ones suit many groups."""
    figure = go.Figure()
    for method, row in table.items():
        groups, values = list(row), list(row.values())
        group, value = ("y", "x") if horizontal else ("x", "y")
        figure.add_bar(
            **{group: groups, value: values, "orientation": "h" if horizontal else "v"},
            name=method,
            marker_color=METHOD_COLORS.get(method),
            hovertemplate=f"%{{{group}}}, {method}: %{{{value}:.3f}}<extra></extra>",
        )
    figure.update_layout(title=title, barmode="group", legend=LEGEND)
    if not horizontal:
        return figure.update_layout(yaxis_title=axis)
    figure.update_yaxes(autorange="reversed", automargin=True)
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom"}
    return figure.update_layout(xaxis_title=axis, height=160 + 34 * len(groups), legend=legend)


def intervals(table: Mapping[str, Mapping[str, tuple[float, float, float]]], title: str, axis: str) -> go.Figure:
    """Bars with whiskers of several methods side by side: ``{method: {group: (value, low, high)}}``."""
    figure = grouped_bars({m: {g: v for g, (v, _, _) in row.items()} for m, row in table.items()}, title, axis)
    for bar, row in zip(figure.data, table.values(), strict=True):
        bar.error_y = {
            "type": "data",
            "array": [high - v for v, _, high in row.values()],
            "arrayminus": [v - low for v, low, _ in row.values()],
            "color": "#808b98",
        }
    return figure


def critical_difference(ranks: Mapping[str, float], critical_difference: float, title: str) -> go.Figure:
    """Mean ranks of methods from best to worst, each with a bar as long as the critical difference.

    What begins beyond the end of a method's bar is worse than that method by more than chance.
    """
    order = sorted(ranks, key=lambda name: ranks[name])
    figure = go.Figure(
        go.Scatter(
            x=[ranks[name] for name in order],
            y=order,
            mode="markers",
            marker={"size": 9, "color": "#2a9d8f"},
            error_x={"type": "constant", "value": critical_difference, "valueminus": 0, "color": "#808b98"},
            hovertemplate="%{y}: mean rank %{x:.2f}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(title=title, xaxis_title="mean rank (1 is best)", height=140 + 26 * len(order))


def curves(lines: Mapping[str, tuple[Sequence, Sequence]], title: str, x_axis: str, y_axis: str) -> go.Figure:
    """Named curves ``{name: (x, y)}``, with markers where the points are few.

    Each is drawn thinner than the one before, so that equal curves show both colours.
    """
    figure = go.Figure()
    for i, (name, (x, y)) in enumerate(lines.items()):
        line = {"color": METHOD_COLORS.get(name), "width": max(2, 6 - 2 * i)}
        figure.add_scatter(x=x, y=y, name=name, mode="lines+markers" if len(x) <= 40 else "lines", line=line)
    return figure.update_layout(title=title, xaxis_title=x_axis, yaxis_title=y_axis, legend=LEGEND)


def scatter(
    points: np.ndarray,
    labels: np.ndarray,
    names: Mapping[int, str],
    colors: Mapping[int, str] | None,
    hover: Sequence[str],
    title: str,
    size: float = 4,
    symbols: Mapping[int, str] | None = None,
) -> go.Figure:
    """Points (n, 2) or (n, 3) coloured by an integer label; a click on a legend entry hides its points.

    Parameters
    ----------
    points
        Coordinates, such as a UMAP projection.
    labels
        Integer label of each point, (n,).
    names, colours
        Legend text and CSS colour of each label.
    hover
        Text of each point.
    title
        Title of the figure.
    size
        Diameter of a marker in pixels.
    symbols
        Plotly's name of the marker of a label; a circle where there is none.
    """
    figure = go.Figure()
    hover_text = np.asarray(hover)
    for label in np.unique(labels):
        chosen = labels == label
        axes = dict(zip("xyz", points[chosen].T, strict=False))
        common = {
            "name": names[int(label)],
            "mode": "markers",
            "text": hover_text[chosen],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {
                "size": size if points.shape[1] == 2 else 0.6 * size,
                "color": colors[int(label)] if colors else None,
                "symbol": (symbols or {}).get(int(label), "circle"),
                "opacity": 0.8,
                "line": {"color": "rgba(150,160,172,0.9)", "width": 0.8},  # bright colours on a white page
            },
        }
        figure.add_trace(go.Scatter3d(**axes, **common) if points.shape[1] == 3 else go.Scatter(**axes, **common))
    figure.update_layout(title=title, height=560, legend={"itemsizing": "constant"})
    hidden = {"showticklabels": False, "title": ""}
    if points.shape[1] == 2:
        return figure.update_xaxes(**hidden).update_yaxes(**hidden)
    return figure.update_scenes(xaxis=hidden, yaxis=hidden, zaxis=hidden)


__getattr__ = old_names(
    __name__,
    {
        "class_colour": "class_color",
        "class_picture": "colorize_classes",
        "rank_line": "critical_difference",
        "value_picture": "colorize_values",
    },
)
