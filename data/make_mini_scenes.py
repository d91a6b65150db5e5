"""Write the mini street scenes that ship with the project, in the layouts of Cityscapes and BRAVO.

python data/make_mini_scenes.py            # writes what is missing in data/mini
python data/make_mini_scenes.py --check    # compares every file with the renderer, writes nothing
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from render import FIRST_SEED, Scene, encode_jpeg, render_scene, render_subset_scene
from tqdm.auto import tqdm

from iood_helpers.io import write_atomically

HERE = Path(__file__).resolve().parent

SPLITS = {"train": (0, 160), "val": (100_000, 60)}
"""First seed and number of scenes; the training scenes are the first of those that the nano network saw."""

SUBSETS = {
    "ACDCfog": 15,
    "ACDCrain": 15,
    "ACDCnight": 15,
    "ACDCsnow": 15,
    "synrain": 15,
    "synflare": 15,
    "outofcontext": 15,
    "synobjs": 60,
    "SMIYC": 60,
    "devobjs": 30,
    "newobjs": 60,
}


@dataclass(frozen=True)
class Entry:
    """One scene to ship: where its files go, and how to render it."""

    subset: str
    seed: int
    index: int
    image: str
    label: str
    mask: str | None

    def render(self) -> Scene:
        """Render the scene."""
        if self.mask is None:
            return render_scene(self.seed)
        return render_subset_scene(self.subset, self.index)

    def files(self, scene: Scene) -> dict[str, bytes]:
        """Path below data/mini to content."""
        label = np.zeros_like(scene.label) if self.subset == "SMIYC" else scene.label  # the official one is fake, too
        out = {self.image: encode_jpeg(scene.image), self.label: png(label)}
        if self.mask is not None:
            out[self.mask] = png(scene.invalid.astype(np.uint8))
        return out


def png(array: np.ndarray) -> bytes:
    """8-bit PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def entries() -> Iterator[Entry]:
    """All scenes that ship, in the order of the manifest."""
    for split, (first, number) in SPLITS.items():
        for index in range(number):
            stem = f"{split}/mini/mini_{index:06d}_000019"
            yield Entry(
                split,
                first + index,
                index,
                f"cityscapes/leftImg8bit/{stem}_leftImg8bit.jpg",
                f"cityscapes/gtFine/{stem}_gtFine_labelTrainIds.png",
                None,
            )
    for subset, number in SUBSETS.items():
        for index in range(number):
            name = f"mini_{index:06d}"
            if subset.startswith("ACDC"):
                stem = f"bravo/bravo_ACDC/{subset.removeprefix('ACDC')}/test/mini/{name}"
                ends = ("_rgb_anon.jpg", "_gt_labelTrainIds.png", "_gt_invIds.png")
            elif subset == "SMIYC":
                stem, ends = (
                    f"bravo/bravo_SMIYC/mini/{name}",
                    (".jpg", "_labels_semantic_fake.png", "_labels_semantic.png"),
                )
            elif subset in ("synobjs", "devobjs", "newobjs"):
                stem, ends = f"bravo/bravo_{subset}/mini/{name}", (".jpg", "_gt.png", "_mask.png")
            else:
                stem = f"bravo/bravo_{subset}/mini/{name}"
                ends = ("_leftImg8bit.jpg", "_gt_labelTrainIds.png", "_gt_invIds.png")
            yield Entry(subset, FIRST_SEED[subset] + index, index, *(stem + end for end in ends))


def manifest(rows: list[tuple[Entry, Scene | None]]) -> bytes:
    """CSV of file, subset, seed and kinds of objects."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "subset", "seed", "object_kinds"])
    for entry, scene in rows:
        writer.writerow([entry.image, entry.subset, entry.seed, " ".join(scene.kinds) if scene else ""])
    return text.getvalue().encode()


def agrees(shipped: bytes, rendered: bytes) -> bool:
    """Whether two image files show the same, but for the last digit of a few pixels.

    Processors round the exponentials of haze and shading differently: on another one up to 0.06 % of the values of an
    image differ by a few levels out of 255.
    """
    one, two = (np.asarray(Image.open(io.BytesIO(content))).astype(int) for content in (shipped, rendered))
    if one.shape != two.shape:
        return False
    differs = np.abs(one - two)
    return float((differs > 0).mean()) <= 0.002 and (one.ndim == 2 or int(differs.max()) <= 8)


def main() -> int:
    """Write or check the files; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "mini")
    parser.add_argument("--check", action="store_true", help="compare with the renderer and write nothing")
    args = parser.parse_args()
    rows, different = [], []
    for entry in tqdm(list(entries()), desc="scenes"):
        scene = entry.render()
        rows.append((entry, scene))
        for name, content in entry.files(scene).items():
            path = args.out / name
            if args.check:
                if not path.is_file() or not agrees(path.read_bytes(), content):
                    different.append(name)
            else:
                write_atomically(path, lambda temporary, c=content: temporary.write_bytes(c))
    if not args.check:
        write_atomically(args.out / "scenes.csv", lambda temporary: temporary.write_bytes(manifest(rows)))
    for name in different:
        print(f"differs from the renderer or is missing: {name}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
