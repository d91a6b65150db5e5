"""Pictures, figures and tables in a notebook, and in the book that is made of it.

The runner sets ``IOOD_BOOK=1`` when it executes notebooks for the book: then figures become plain HTML that draws
without a kernel and without the network. In JupyterLab they are ordinary Plotly figures.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import uuid
import zlib
from collections.abc import Sequence

import myst_nb
import numpy as np
import plotly.graph_objects as go
from IPython.display import HTML, display
from PIL import Image
from plotly.colors import sample_colorscale

from ..datasets.labels import CLASS_NAMES, PALETTE
from ..errors import ParameterError

INK = "#808b98"
"""Grey that is legible on white and on dark pages."""

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 13},
        "colorway": ["#2a9d8f", "#e1a32a", "#d1495b", "#5b8def", "#9b6fd1", "#7f8fa6", "#67a84f", "#c96f3b"],
        "margin": {"l": 60, "r": 20, "t": 60, "b": 50},
        "title": {"x": 0.02, "font": {"size": 15}},
        "xaxis": {"gridcolor": "rgba(128,139,152,0.3)", "zerolinecolor": "rgba(128,139,152,0.5)"},
        "yaxis": {"gridcolor": "rgba(128,139,152,0.3)", "zerolinecolor": "rgba(128,139,152,0.5)"},
    }
)

FLAT = frozenset({"bar", "pie", "scatter"})
"""Kinds of traces that the build of Plotly.js in the book draws."""


def show(figure: go.Figure, alt: str) -> None:
    """Show a Plotly figure.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        Traces of the kinds bar, pie and scatter, or of scatter3d alone.
    alt : str
        What is to be seen, in words.

    Raises
    ------
    ParameterError
        If the book cannot draw a kind of trace. JupyterLab draws them all.
    """
    figure.update_layout(template=TEMPLATE)
    if not os.environ.get("IOOD_BOOK"):
        figure.show()
        return
    display(HTML(_for_the_book(figure, alt)))


def _for_the_book(figure: go.Figure, alt: str) -> str:
    """The figure as packed data; ``figures.js`` of the book draws it when it comes into view, in the space kept here.

    Points in three dimensions are drawn by a script of its own, ``solid.js``, all else by a small build of Plotly.js.
    """
    kinds = {trace.type for trace in figure.data}
    solid = kinds == {"scatter3d"}
    if not (solid or kinds <= FLAT):
        others = ", ".join(sorted(kinds - FLAT))
        raise ParameterError(
            f"The book cannot draw {others} here; it draws {', '.join(sorted(FLAT))}, or scatter3d alone."
        )
    height = figure.layout.height or 450
    data = base64.b64encode(zlib.compress(figure.to_json().encode(), 9)).decode()  # a quarter of the JSON
    return (
        f'<div class="iood-figure" role="figure" aria-label="{html.escape(alt)}" data-height="{height}"'
        f' data-kind="{"solid" if solid else "flat"}"><div class="iood-plot" style="min-height:{height}px"></div>'
        f'<script type="application/octet-stream">{data}</script></div>'
    )


def glue(name: str, value: float | None, form: str = ".3f") -> None:
    """Give a number of this run a name, by which the text of the notebook can quote it.

    In Markdown, ``{glue:text}`mean IoU``` becomes the number when the book is built. JupyterLab shows the role as it
    stands there. So names are words (``mean IoU``), the role stands behind a sentence that is complete without it
    ("Thin things are hard to find (IoU of poles: {glue:text}`IoU of poles`)."), and outside of the book the number is
    printed by the cell above.

    Parameters
    ----------
    name : str
        Unique in the notebook, without a colon.
    value : float or None
        None, and what is not finite, reads "not measured".
    form : str
        Format of the number, as in ``format(value, form)``.
    """
    measured = value is not None and np.isfinite(value)
    text = format(value, form) if measured else "not measured"
    myst_nb.glue(name, text, display=False)
    if not os.environ.get("IOOD_BOOK"):
        print(f"{name}: {text}")


def show_images(
    pictures: Sequence[tuple[np.ndarray, str]],
    alt: str,
    columns: int = 2,
    *,
    classes: np.ndarray | None = None,
    ends: tuple[str, str] | None = None,
) -> None:
    """Show pictures with captions, side by side where there is room.

    Parameters
    ----------
    pictures : sequence of (numpy.ndarray, str)
        (H, W, 3) uint8, and caption.
    alt : str
        What is to be seen, in words; each picture's caption is added.
    columns : int, default=2
        Pictures side by side, where there is room.
    classes : numpy.ndarray, optional
        Train ids of any shape; those that occur are named below, with their colours.
    ends : (str, str), optional
        What the dark and the bright end of the scale of ``colorize_values`` stand for; shows that scale below.
    """
    cells = "".join(
        f'<figure><img src="{_data_uri(picture)}" alt="{html.escape(f"{alt} {caption}")}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for picture, caption in pictures
    )
    style = (
        f"<style>.iood-images{{display:grid;gap:.6rem;grid-template-columns:repeat({columns},minmax(0,1fr))}}"
        ".iood-images figure{margin:0}.iood-images img{width:100%;height:auto;display:block}"
        ".iood-images figcaption{font-size:.85em;color:inherit;text-align:center}"
        "@media(max-width:600px){.iood-images{grid-template-columns:1fr!important}}</style>"
    )
    keys = ("" if classes is None else _class_key(classes)) + ("" if ends is None else _scale_key(*ends))
    grid = f'<div class="iood-images" style="grid-template-columns:repeat({columns},1fr)">{cells}</div>'
    display(HTML(style + grid + keys))


def _class_key(classes: np.ndarray) -> str:
    """Colour and name of each class that occurs."""
    swatch = '<i style="display:inline-block;width:.9em;height:.9em;border:1px solid {1};background:rgb{0}"></i>'
    names = "".join(
        f'<span style="margin-right:1em;white-space:nowrap">{swatch.format(tuple(PALETTE[c].tolist()), INK)} '
        f"{CLASS_NAMES[c]}</span> "
        for c in np.unique(classes)
        if c < len(CLASS_NAMES)
    )
    return f'<p class="iood-key" style="font-size:.85em">{names}</p>'


def _scale_key(dark: str, bright: str) -> str:
    """The scale of ``colorize_values`` between two words."""
    colors = ",".join(sample_colorscale("Cividis", np.linspace(0, 1, 9)))
    bar = f'<i style="display:inline-block;width:8em;height:.8em;background:linear-gradient(to right,{colors})"></i>'
    return f'<p class="iood-key" style="font-size:.85em">{html.escape(dark)} {bar} {html.escape(bright)}</p>'


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a table of texts."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    display(HTML(f'<table class="dataframe iood-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'))


def image_slider(pictures: Sequence[tuple[str, np.ndarray]], alt: str) -> None:
    """Pictures of one size under a slider that needs no kernel: ``[(label, picture), ...]``."""
    key = f"iood-{uuid.uuid5(uuid.NAMESPACE_URL, alt + str(len(pictures))).hex[:8]}"
    middle = len(pictures) // 2
    images = "".join(
        f'<img class="{key}" src="{_data_uri(picture)}" alt="{html.escape(f"{alt} {label}")}" '
        f'style="width:100%;display:{"block" if i == middle else "none"}">'
        for i, (label, picture) in enumerate(pictures)
    )
    labels = json.dumps([label for label, _ in pictures])
    script = (
        f"var s=this,l={labels};document.querySelectorAll('.{key}').forEach("
        "function(e,i){e.style.display=i==s.value?'block':'none'});"
        f"document.getElementById('{key}-label').textContent=l[s.value]"
    )
    display(
        HTML(
            f'<div class="iood-slider"><label><input type="range" min="0" max="{len(pictures) - 1}" value="{middle}" '
            f'style="width:100%" aria-label="{html.escape(alt)}" oninput="{html.escape(script)}"> '
            f'<span id="{key}-label">{html.escape(pictures[middle][0])}</span></label>{images}</div>'
        )
    )


def _data_uri(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    # Few colours (class maps) are smaller and sharper as PNG, photographs as WebP.
    few = len(np.unique(picture.reshape(-1, 3)[::7], axis=0)) < 64
    kind = "PNG" if few else "WEBP"
    Image.fromarray(picture).save(buffer, kind, **({"optimize": True} if few else {"quality": 75, "method": 6}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
