"""What the notebooks need around the method: the runner, run folders, pictures and figures."""

from .artifacts import (
    artifact,
    left_out,
    read_metrics,
    run_folder,
    scene_to_show,
    with_unknown_objects,
    write_metrics,
)
from .display import image_slider, show, show_images, show_table

__all__ = [
    "artifact",
    "image_slider",
    "left_out",
    "read_metrics",
    "run_folder",
    "scene_to_show",
    "show",
    "show_images",
    "show_table",
    "with_unknown_objects",
    "write_metrics",
]
