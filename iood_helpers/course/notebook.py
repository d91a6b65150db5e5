"""What the notebooks need around the method: run folders, artefacts, metrics, and showing pictures and figures.

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
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import HTML, display
from PIL import Image

from ..bravo.metrics import OOD_SUBSETS
from ..datasets.loading import Sample, load_dataset
from ..errors import ArtifactError, FileError
from ..io import write_json

ROOT = Path(__file__).resolve().parent.parent.parent
INK = "#808b98"
"""Grey that is legible on white and on dark pages."""

pio.templates["iood"] = go.layout.Template(
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


def run_folder(run_dir: str | Path) -> Path:
    """Folder of a run, made if missing; a relative path counts from the root of the repository, ``~`` is the user's.

    Raises
    ------
    FileError
        If it cannot be made.
    """
    folder = ROOT / Path(run_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", error)
        raise FileError(f"The run folder {str(folder)!r} cannot be made ({reason}); choose another.") from error
    return folder


def artifact(path: str | Path, made_by: str) -> Path:
    """Path of something that an earlier notebook leaves.

    Raises
    ------
    ArtifactError
        If it is not there; the message names the notebook and the command that make it.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(
            f"{path} is missing; the notebook {made_by} makes it: python -m iood_helpers.run --only {made_by[:2]}"
        )
    return path


def with_unknown_objects(
    splits: Sequence[str], data_root: str | Path | None = None, limit: int | None = None
) -> list[str]:
    """Those of some splits that have masks of unknown objects: the benchmark's two subsets, or else any; maybe none."""
    official = [split for split in splits if split.split("/")[1] in OOD_SUBSETS]
    return [
        split
        for split in official or splits
        if any(sample.invalid().any() for sample in load_dataset(split, root=data_root, limit=limit or 20))
    ]


def scene_to_show(split: str, data_root: str | Path | None = None, share: float = 0.02) -> Sample:
    """The first scene of a split of which unknown objects cover more than a share; else the first one."""
    scenes = load_dataset(split, root=data_root)
    return next((scene for scene in scenes if scene.invalid().mean() > share), scenes[0])


def left_out(what: str) -> None:
    """Say in one sentence what a notebook does not show, since the data at hand have no labels for it."""
    print(f"Left out, since there are no labels for it here: {what}.")


def write_metrics(run: Path, notebook: str, metrics: Mapping[str, float | None]) -> None:
    """Write a notebook's metrics to ``metrics/<notebook>.json`` in the run folder."""
    write_json(Path(run) / "metrics" / f"{notebook}.json", dict(metrics))


def read_metrics(run: Path, notebook: str) -> dict[str, float | None]:
    """Read what :func:`write_metrics` wrote; ArtifactError if it is missing or damaged."""
    path = artifact(Path(run) / "metrics" / f"{notebook}.json", made_by=notebook)
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged; the notebook {notebook} makes it anew.") from error
    if not isinstance(metrics, dict) or not all(
        value is None or type(value) in (int, float) for value in metrics.values()
    ):
        raise ArtifactError(f"{path} is damaged; the notebook {notebook} makes it anew.")
    return metrics


def show(figure: go.Figure, alt: str) -> None:
    """Show a Plotly figure; ``alt`` says in words what is to be seen."""
    figure.update_layout(template="iood")
    if not os.environ.get("IOOD_BOOK"):
        figure.show()
        return
    plot = pio.to_html(
        figure,
        full_html=False,
        include_plotlyjs=False,
        config={"responsive": True, "displaylogo": False, "displayModeBar": "hover"},
    )
    display(HTML(f'<div class="iood-figure" role="img" aria-label="{html.escape(alt)}">{plot}</div>'))


def show_images(pictures: Sequence[tuple[np.ndarray, str]], alt: str, columns: int = 2) -> None:
    """Show pictures (H, W, 3) uint8 with captions, side by side where there is room."""
    cells = "".join(
        f'<figure><img src="{_data_uri(picture)}" alt="{html.escape(f"{alt} {caption}")}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for picture, caption in pictures
    )
    style = (
        f"<style>.iood-images{{display:grid;gap:.6rem;grid-template-columns:repeat({columns},minmax(0,1fr))}}"
        ".iood-images figure{margin:0}.iood-images img{width:100%;height:auto;display:block}"
        ".iood-images figcaption{font-size:.85em;opacity:.8;text-align:center}"
        "@media(max-width:600px){.iood-images{grid-template-columns:1fr!important}}</style>"
    )
    display(HTML(f'{style}<div class="iood-images" style="grid-template-columns:repeat({columns},1fr)">{cells}</div>'))


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
            f'style="width:60%" aria-label="{html.escape(alt)}" oninput="{html.escape(script)}"> '
            f'<span id="{key}-label">{html.escape(pictures[middle][0])}</span></label>{images}</div>'
        )
    )


def _data_uri(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    # Few colours (class maps) are smaller and sharper as PNG, photographs as JPEG.
    few = len(np.unique(picture.reshape(-1, 3)[::7], axis=0)) < 64
    kind = "PNG" if few else "JPEG"
    Image.fromarray(picture).save(buffer, kind, **({"optimize": True} if few else {"quality": 85}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
