"""Rehearsal trees: Cityscapes and BRAVO in the official layouts, names, formats and sizes, from mini scenes enlarged.

The official data cannot ship. With these trees whatever is promised for them can be tried, at full size by hand:

    python tests/support/rehearsal.py OUT --train 6 --images 2             # BRAVO without labels, as it is published
    python tests/support/rehearsal.py OUT --train 6 --images 2 --labels    # with label maps and masks
"""

from __future__ import annotations

import argparse
import json
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from iood_helpers.bravo.ground_truth import pack_ground_truth
from iood_helpers.bravo.submission import sample_ground_truth
from iood_helpers.datasets import BRAVO_LAYOUT, Sample, load_dataset
from iood_helpers.datasets.labels import CITYSCAPES_LABEL_IDS

CITYSCAPES = (1024, 2048)
ACDC = (1080, 1920)
SMIYC = ((720, 1280), (1024, 2048), (1080, 1920))
TOWNS = {"train": ("aachen", "bochum"), "val": ("frankfurt", "lindau"), "test": ("berlin", "bonn")}
IGNORED_LABEL_IDS = (0, 4, 5, 6, 9)
"""Label ids of void: unlabeled, static, dynamic, ground, parking."""


def rehearsal_tree(
    root: Path, *, train: int = 6, images: int = 2, scale: float = 1.0, labels: bool = False, progress: bool = False
) -> Path:
    """Write ``cityscapes/`` and ``bravo/`` below a folder.

    Parameters
    ----------
    root
        Folder to write to.
    train
        Training images of Cityscapes; half as many for val and test.
    images
        Images of each BRAVO subset.
    scale
        Sides relative to the official ones; 1 is official.
    labels
        Whether the BRAVO subsets get their label maps and masks, which the organisers keep.
    progress
        Whether to show a bar.
    """
    jobs = []
    for split, count in (("train", train), ("val", max(1, train // 2)), ("test", max(1, train // 2))):
        scenes = cycle(load_dataset("mini/train" if split == "train" else "mini/val"))
        jobs += [(_write_cityscapes, split, number, next(scenes)) for number in range(count)]
    for subset in BRAVO_LAYOUT:
        scenes = cycle(load_dataset(f"mini/{subset}"))
        jobs += [(_write_bravo, subset, number, next(scenes)) for number in range(images)]
    for write, split, number, scene in tqdm(jobs, desc="rehearsal tree", disable=not progress):
        write(root, split, number, scene, scale, labels)
    return root


def samples_archive(labelled: Path, path: Path) -> Path:
    """``samples.tar`` as the organisers publish it, for a tree with labels; beside it the ground truth, ``gt.tar``."""
    splits = [f"bravo/{subset}" for subset in BRAVO_LAYOUT]
    truth = pack_ground_truth(splits, path.with_name("gt.tar"), root=labelled)
    return sample_ground_truth(truth, path, progress=False)


def _write_cityscapes(root: Path, split: str, number: int, scene: Sample, scale: float, _: bool) -> None:
    town = TOWNS[split][number % 2]
    base = f"{split}/{town}/{town}_{number:06d}_000019"
    size = _scaled(CITYSCAPES, scale)
    _save(root / f"cityscapes/leftImg8bit/{base}_leftImg8bit.png", _image(scene, size))
    truth = root / f"cityscapes/gtFine/{base}_gtFine"
    ids = np.full(size, 3, np.uint8)  # of the test split everything is void
    if split != "test":
        ids = label_ids(_upsampled(scene.label(), size), number)
    _save(truth.with_name(truth.name + "_labelIds.png"), ids)
    _save(truth.with_name(truth.name + "_instanceIds.png"), ids.astype(np.uint16))
    _save(truth.with_name(truth.name + "_color.png"), np.repeat(ids[..., None], 4, 2))
    polygons = {"imgHeight": size[0], "imgWidth": size[1], "objects": []}
    truth.with_name(truth.name + "_polygons.json").write_text(json.dumps(polygons))


def label_ids(train_ids: np.ndarray, seed: int) -> np.ndarray:
    """Cityscapes label ids of a map of train ids; void becomes any of the ids that are not evaluated."""
    table = np.array([*CITYSCAPES_LABEL_IDS, *[0] * (256 - len(CITYSCAPES_LABEL_IDS))], np.uint8)
    ids = table[train_ids]
    void = train_ids == 255
    ids[void] = np.random.default_rng(seed).choice(IGNORED_LABEL_IDS, void.sum())
    return ids


def _write_bravo(root: Path, subset: str, number: int, scene: Sample, scale: float, labels: bool) -> None:
    layout = BRAVO_LAYOUT[subset]
    size = _scaled({"ACDC": ACDC, "SMIY": SMIYC[number % len(SMIYC)]}.get(subset[:4], CITYSCAPES), scale)
    if layout.part:
        base = f"{layout.part}/test/GOPR{number:04d}/GOPR{number:04d}_frame_{number:06d}"
    elif subset == "SMIYC":
        base = f"RoadAnomaly21/images/validation{number:04d}"
    elif subset == "synobjs":
        base = f"armchair/{number}"
    else:
        base = f"frankfurt/frankfurt_{number:06d}_000294"
    path = root / "bravo" / layout.folder / base
    suffix = ".jpg" if subset == "SMIYC" else ".png"
    _save(path.with_name(path.name + layout.image + suffix), _image(scene, size))
    if labels:
        _save(path.with_name(path.name + layout.label), _upsampled(scene.label(), size))
        _save(path.with_name(path.name + layout.mask), _upsampled(scene.invalid().astype(np.uint8), size))


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return tuple(round(side * scale) for side in size)


def _image(scene: Sample, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(scene.image()).resize(size[::-1], Image.Resampling.BICUBIC))


def _upsampled(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **({"compress_level": 1} if path.suffix == ".png" else {"quality": 95}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=6)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--labels", action="store_true")
    arguments = vars(parser.parse_args())
    print(rehearsal_tree(arguments.pop("out"), progress=True, **arguments))
