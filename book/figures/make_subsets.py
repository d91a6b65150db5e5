"""Make the pictures of the primer: one scene of each subset, and a scene with its class map.

python book/figures/make_subsets.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from iood_helpers import load_dataset
from iood_helpers.course.plots import OOD_COLOR, colorize_classes, mask_overlay

FOLDER = Path(__file__).resolve().parent / "subsets"
SCENES = {
    "ACDCfog": 0,
    "ACDCrain": 0,
    "ACDCnight": 1,
    "ACDCsnow": 0,
    "synrain": 0,
    "synflare": 0,
    "outofcontext": 0,
    "synobjs": 54,
    "SMIYC": 34,
}
EXAMPLE = "mini/val", 0


def outlined(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The image with a line around the pixels of ``mask``."""
    if mask is None:
        return image
    return mask_overlay(image, binary_dilation(mask, iterations=2) & ~mask, OOD_COLOR, strength=1.0)


def save(image: np.ndarray, name: str) -> None:
    """A JPEG below 15 kB."""
    path = FOLDER / f"{name}.jpg"
    Image.fromarray(image).save(path, quality=60, optimize=True)
    print(path.name, path.stat().st_size)


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for subset, index in SCENES.items():
        sample = load_dataset(f"mini/{subset}")[index]
        save(outlined(sample.image(), sample.invalid() if subset in ("synobjs", "SMIYC") else None), subset)
    sample = load_dataset(EXAMPLE[0])[EXAMPLE[1]]
    save(sample.image(), "example")
    Image.fromarray(colorize_classes(sample.label())).quantize(32).save(FOLDER / "example_classes.png", optimize=True)


if __name__ == "__main__":
    main()
