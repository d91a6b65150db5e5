"""Make the pictures of the slides: those that notebook 00 shows, from a run of it.

python book/figures/make_steps.py [--run runs/mini]
"""

from __future__ import annotations

import argparse
import base64
import io
import re
from pathlib import Path

import nbformat
from PIL import Image

FOLDER = Path(__file__).resolve().parent / "steps"
NOTEBOOK = "00_the_method_in_ten_minutes.ipynb"
NAMES = ("image", "object", "classes", "confidence", "before", "after")
"""In the order in which the notebook shows them."""


def shown(notebook: Path) -> list[Image.Image]:
    """All pictures in the outputs of an executed notebook."""
    outputs = [out for cell in nbformat.read(notebook, as_version=4).cells for out in cell.get("outputs", [])]
    text = "".join(out.get("data", {}).get("text/html", "") for out in outputs)
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB") for each in found]


def main() -> None:
    """Write all of them, but for the confidence before, which is that of the network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=FOLDER.parent.parent.parent / "runs" / "mini")
    pictures = dict(zip(NAMES, shown(parser.parse_args().run / "notebooks" / NOTEBOOK), strict=True))
    del pictures["before"]
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        path = FOLDER / f"{name}.webp"
        picture.save(path, quality=80, method=6)
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
