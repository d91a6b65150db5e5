"""Figures that one can touch, in a notebook and in the book that is made of it.

What they do is written in JavaScript, in ``book/extra/explorables``; what they show is given by the notebook.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from IPython.display import HTML, display
from PIL import Image

BOOK = Path(__file__).resolve().parents[2] / "book"
SCRIPTS, STYLE = BOOK / "extra" / "explorables", BOOK / "_static" / "explorables.css"


def show_explorable(name: str, content: dict[str, Any] | None = None, *, text: str) -> None:
    """Show a figure that answers to mouse, finger and keyboard, without a kernel and without the network.

    Parameters
    ----------
    name : str
        The script ``book/extra/explorables/NAME.js`` that draws it.
    content : dict, optional
        What it draws, of what JSON knows; by default the shipped scenes (``scenes.js``).
    text : str
        What is to be seen and done there, in words, for where scripts do not run.
    """
    inside = ""
    if content is not None:  # as Plotly does it: no text may end the script
        inside = f'<script type="application/json">{_json(content)}</script>'
    figure = f'<div class="iood-explorable" data-explorable="{name}"><p>{html.escape(text)}</p>{inside}</div>'
    if not os.environ.get("IOOD_BOOK"):  # the book has scripts and styles for all its pages
        figure += _inline(name, with_scenes=content is None)
    display(HTML(figure))


def _inline(name: str, with_scenes: bool) -> str:
    """Style and scripts for a notebook that stands alone."""
    scripts = [SCRIPTS / "core.js", *([SCRIPTS / "scenes.js"] if with_scenes else []), SCRIPTS / f"{name}.js"]
    if missing := [path for path in (STYLE, *scripts) if not path.is_file()]:
        return f"<p>{html.escape(missing[0].name)} is missing: figures to touch need the whole repository.</p>"
    parts = "".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in scripts)
    return f"<style>{STYLE.read_text(encoding='utf-8')}</style>{parts}"


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def encode_map(values: np.ndarray) -> str:
    """A map as text: differences from what three neighbors let expect, deflated, in base64.

    Parameters
    ----------
    values : numpy.ndarray
        (H, W) uint8.

    Returns
    -------
    str
        ``decode`` in ``core.js`` is the way back.
    """
    residual = (values.astype(np.int64) - _expected(values)).astype(np.uint8)  # modulo 256
    return base64.b64encode(zlib.compress(residual.tobytes(), 9)).decode()


def encode_numbers(values: np.ndarray) -> str:
    """Numbers (n,) of 0..65535 as text, rounded; ``decodeNumbers`` in ``core.js`` is the way back."""
    whole = np.clip(np.round(values), 0, 65535).astype(np.int64)
    return encode_map(np.stack([whole >> 8, whole & 255]).astype(np.uint8))


def _expected(values: np.ndarray) -> np.ndarray:
    """What left, upper and upper left neighbor let expect (the median edge detector of LOCO-I), (H, W) int64."""
    padded = np.pad(values.astype(np.int64), ((1, 0), (1, 0)))
    left, up, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    low, high = np.minimum(left, up), np.maximum(left, up)
    return np.where(corner >= high, low, np.where(corner <= low, high, left + up - corner))


def jpeg_uri(image: np.ndarray, quality: int) -> str:
    """An image (H, W, 3) uint8 as an address that holds it, by JPEG of quality 1..95."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
