"""One HTML page that shows what ``iood predict`` found: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..datasets.labels import CLASS_NAMES, PALETTE
from ..io import write_atomically
from .images import UNKNOWN_COLOR, paths

SHOWN = 100
"""Pictures on the page; of more, those with the largest unknown share."""
PREVIEW = 720
"""Longer side of a picture on the page, in pixels."""

STYLE = """
:root{color-scheme:light dark;--ink:#1d2733;--soft:#5a6675;--page:#fafbfc;--card:#fff;--line:#dde3ea;--mark:#c2134a}
@media(prefers-color-scheme:dark){
:root{--ink:#e6ebf1;--soft:#9aa7b6;--page:#12171d;--card:#1b222b;--line:#2d3743;--mark:#ff6b95}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1100px;padding:1.5rem 1rem 3rem;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;line-height:1.2;margin:0 0 .5rem}
p{max-width:46rem;margin:.4rem 0}
.soft,figcaption,.legend{color:var(--soft);font-size:.9rem}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;margin:1rem 0}
.legend i{display:inline-block;width:.9em;height:.9em;border-radius:.2em;margin-right:.4em;vertical-align:-.05em;
border:1px solid var(--soft)}
article{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem;margin:1rem 0}
h2{font-size:1rem;margin:0 0 .5rem;display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1rem;
overflow-wrap:anywhere}
h2 b{color:var(--mark);font-weight:600}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:.6rem}
figure{margin:0}
img{width:100%;height:auto;display:block;border-radius:.3rem}
@media(max-width:640px){.pair{grid-template-columns:1fr}}
"""


def write_page(folder: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``index.html`` of a folder of predictions.

    Parameters
    ----------
    folder : Path
        Holds the maps and overlays.
    records : sequence of mapping
        Lines of ``predictions.jsonl``, without the first.

    Returns
    -------
    Path

    Raises
    ------
    FileError
        If it cannot be written.
    """
    shown = sorted(records, key=lambda record: record["name"])
    if len(shown) > SHOWN:
        shown = sorted(shown, key=lambda record: -record["unknown"])[:SHOWN]
    known = {name for record in shown for name in record["classes"]}
    parts = [_head(len(records), len(shown)), _legend(known), *(_article(folder, record) for record in shown)]
    text = "\n".join(parts) + "\n</main>\n</html>\n"
    return write_atomically(folder / "index.html", lambda path: path.write_text(text, encoding="utf-8"))


def _head(number: int, shown: int) -> str:
    chosen = "" if shown == number else f" Shown are the {shown} with the largest unknown share."
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';img-src data:;style-src 'unsafe-inline'">
<title>What looks unknown</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>What looks unknown</h1>
<p>{number} picture{"" if number == 1 else "s"}.{chosen} Tinted: far from all that it was shown as normal, and the
network is in doubt. A line runs round pixels whose class is more likely wrong than right. The percentage is
their share.</p>
<p class="soft">A network can be sure and wrong: what is not tinted is not thereby known.</p>"""


def _legend(known: set[str]) -> str:
    items = [(UNKNOWN_COLOR, "unknown")] + [
        (tuple(PALETTE[c]), name) for c, name in enumerate(CLASS_NAMES) if name in known
    ]
    rows = "".join(f'<li><i style="background:rgb({r},{g},{b})"></i>{name}</li>' for (r, g, b), name in items)
    return f'<ul class="legend" aria-label="Colours">{rows}</ul>'


def _article(folder: Path, record: Mapping[str, Any]) -> str:
    files, name = paths(folder, record["name"]), html.escape(record["name"])
    share = f"{record['unknown']:.1%}"
    most = sorted(record["classes"], key=lambda c: -record["classes"][c])[:4]
    seen = ", ".join(f"{c} {record['classes'][c]:.0%}" for c in most)
    pictures = {
        "novelty picture": (f"{name} in grey, with unknown regions tinted: {share} of the pixels.", "unknown, tinted"),
        "class picture": (f"{name}, tinted with the predicted classes: {seen}.", seen),
    }
    figures = "".join(
        f'<figure><img src="{_data_uri(files[what])}" alt="{alt}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
        for what, (alt, caption) in pictures.items()
    )
    return f'<article><h2><span>{name}</span><b>{share} unknown</b></h2><div class="pair">{figures}</div></article>'


def _data_uri(path: Path) -> str:
    buffer = io.BytesIO()
    with Image.open(path, formats=["JPEG"]) as image:
        image.thumbnail((PREVIEW, PREVIEW))
        image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
