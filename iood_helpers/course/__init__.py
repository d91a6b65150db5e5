"""What the notebooks need around the method: the runner, run folders, pictures and figures."""

from .artifacts import (
    artifact,
    left_out,
    load_run,
    read_metrics,
    run_folder,
    scene_to_show,
    with_unknown_objects,
    write_metrics,
)
from .display import glue, image_slider, show, show_images, show_table
from .explorables import show_explorable

__all__ = [
    "artifact",
    "glue",
    "image_slider",
    "left_out",
    "load_run",
    "read_metrics",
    "run_folder",
    "scene_to_show",
    "show",
    "show_explorable",
    "show_images",
    "show_table",
    "with_unknown_objects",
    "write_metrics",
]
