"""Make ``book/extra/explorables/scenes.js``: what the pages that one can touch need of a few shipped scenes.

python book/explorables/make_data.py [--out FILE]

Every second pixel of every second row: the log-odds of the network's confidence in tenths, the distance d of the
calibrated rule in hundredths, the predicted class, and whether the pixel is right, wrong, unknown or void. Maps are
encoded by :mod:`iood_helpers.course.explorables`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from iood_helpers import load_dataset, load_segmenter
from iood_helpers.command.pipeline import Statistics, default_statistics
from iood_helpers.course.explorables import encode_map, jpeg_uri
from iood_helpers.datasets.labels import CLASS_NAMES, VOID
from iood_helpers.io import write_atomically
from iood_helpers.method.calibration import log_odds
from iood_helpers.method.refinement import novelty_map

OUT = Path(__file__).resolve().parent.parent / "extra" / "explorables" / "scenes.js"
MODEL = "nano"
STEP = 2
LOWEST, LEVELS = -50, 181
"""Log-odds in tenths: level 0 is -5.0, level 180 is 13.0."""
RIGHT, WRONG, UNKNOWN, NOTHING = range(4)
JPEG_QUALITY = 45


class Scene(NamedTuple):
    """One scene of the data file."""

    key: str
    title: str
    split: str
    index: int
    pages: tuple[str, ...]


SCENES = (
    Scene("sphere", "a sphere", "mini/synobjs", 54, ("threshold", "formula")),
    Scene("large", "a large sphere and a box", "mini/synobjs", 46, ("threshold",)),
    Scene("sofa", "a sofa and a rock, half hidden", "mini/synobjs", 36, ("threshold",)),
    Scene("dog", "a dog, small and dark", "mini/synobjs", 6, ("threshold",)),
    Scene("deer", "a deer", "mini/synobjs", 12, ("threshold",)),
    Scene("fog", "fog", "mini/ACDCfog", 0, ("formula",)),
    Scene("night", "night", "mini/ACDCnight", 1, ("formula",)),
    Scene("usual", "nothing unusual", "mini/val", 0, ("formula",)),
)


def maps(scene: Scene, segmenter: Any, statistics: Statistics) -> dict[str, np.ndarray]:
    """The four maps of a scene, (H / 2, W / 2) uint8, and its image (H, W, 3)."""
    sample = load_dataset(scene.split)[scene.index]
    prediction = segmenter.predict(sample.image())
    label, invalid = sample.label(), sample.invalid()
    kinds = np.where(prediction.classes == label, RIGHT, WRONG)
    kinds[label == VOID] = NOTHING
    if invalid is not None:
        kinds[invalid & (label != VOID)] = UNKNOWN
    odds = np.round(10 * log_odds(prediction.confidence)) - LOWEST
    distance = np.round(100 * novelty_map(prediction, statistics.kmeans, statistics.embedder))
    full = {
        "odds": odds.clip(0, LEVELS - 1),
        "distance": distance.clip(0, 255),
        "classes": prediction.classes,
        "kinds": kinds,
    }
    return {name: values[::STEP, ::STEP].astype(np.uint8) for name, values in full.items()} | {"image": sample.image()}


def entry(scene: Scene, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the file says of one scene."""
    encoded = {name: encode_map(values) for name, values in found.items() if name != "image"}
    about = {"key": scene.key, "title": scene.title, "pages": list(scene.pages)}
    return about | {"image": jpeg_uri(found["image"], JPEG_QUALITY)} | encoded


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    segmenter, statistics = load_segmenter(MODEL, device="cpu"), Statistics.load(default_statistics(MODEL))
    scenes = []
    for scene in SCENES:
        found = maps(scene, segmenter, statistics)
        scenes.append(entry(scene, found))
    rows, columns = found["odds"].shape
    content = {"rows": rows, "columns": columns, "lowest": LOWEST, "levels": LEVELS}
    content |= {"names": list(CLASS_NAMES), "scenes": scenes}
    text = f"ioodExplorables.receive({json.dumps('scenes')}, {json.dumps(content, separators=(',', ':'))});\n"
    print(write_atomically(out, lambda temporary: temporary.write_text(text)), f"{len(text) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
