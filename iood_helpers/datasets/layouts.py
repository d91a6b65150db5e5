"""Cityscapes, CamVid, BRAVO with the mini scenes, and folders of masks: where their files lie.

Which encodings occur where:

| Data set | Label map | Mask |
|---|---|---|
| Cityscapes | train ids or label ids (0..33, 255 void), image by image | none |
| CamVid | CamVid ids, 11 or 255 for void | none |
| BRAVO, mini | train ids, 255 for void | not zero: invalid |
| masks | none | 0 in-distribution, 255 void, anything else an anomaly |
"""

from __future__ import annotations

from dataclasses import dataclass

from .trees import Tree


@dataclass(frozen=True)
class BravoLayout:
    """Where the files of one BRAVO subset are and how their names end.

    Attributes
    ----------
    folder : str
        Folder below ``bravo/``.
    part : str or None
        A folder that must occur in the path (the weather of the ACDC subsets).
    image : str
        What stands between the base of the name and the image's file suffix (also before ``_pred.png``).
    label, mask : str
        Endings of the label map and of the mask of invalid pixels.
    """

    folder: str
    part: str | None
    image: str
    label: str
    mask: str


_GT = ("_gt_labelTrainIds.png", "_gt_invIds.png")
BRAVO_LAYOUT: dict[str, BravoLayout] = {
    "ACDCfog": BravoLayout("bravo_ACDC", "fog", "_rgb_anon", *_GT),
    "ACDCrain": BravoLayout("bravo_ACDC", "rain", "_rgb_anon", *_GT),
    "ACDCnight": BravoLayout("bravo_ACDC", "night", "_rgb_anon", *_GT),
    "ACDCsnow": BravoLayout("bravo_ACDC", "snow", "_rgb_anon", *_GT),
    "SMIYC": BravoLayout("bravo_SMIYC", None, "", "_labels_semantic_fake.png", "_labels_semantic.png"),
    "outofcontext": BravoLayout("bravo_outofcontext", None, "_leftImg8bit", *_GT),
    "synflare": BravoLayout("bravo_synflare", None, "_leftImg8bit", *_GT),
    "synobjs": BravoLayout("bravo_synobjs", None, "", "_gt.png", "_mask.png"),
    "synrain": BravoLayout("bravo_synrain", None, "_leftImg8bit", *_GT),
}
"""The nine subsets of the BRAVO benchmark: folders and file names as its organisers publish them."""

OWN_SUBSETS = ("devobjs", "newobjs")
"""Subsets of the mini scenes only: objects to develop on, and kinds of objects that no development has seen.

They are measured like synobjs, but enter no aggregate.
"""

MINI_LAYOUT = BRAVO_LAYOUT | {
    name: BravoLayout(f"bravo_{name}", None, "", "_gt.png", "_mask.png") for name in OWN_SUBSETS
}
"""Subsets of the mini scenes."""


def cityscapes_tree(split: str, folders: tuple[str, ...] = ("cityscapes",)) -> Tree:
    """``leftImg8bit/<split>/...`` and ``gtFine/<split>/...``; labels of test are withheld.

    The official download holds label ids only; train ids are made from them by a tool of its own.
    """
    return Tree(
        folders,
        images=("leftImg8bit/{split}",),
        ending="_leftImg8bit",
        labels=(
            ("gtFine/{split}/{name}_gtFine_labelTrainIds.png", "train-ids"),
            ("gtFine/{split}/{name}_gtFine_labelIds.png", "label-ids"),
        ),
        withheld=split == "test",
    )


def bravo_tree(layout: BravoLayout) -> Tree:
    """A subset of BRAVO or of the mini scenes; label maps and masks where they are."""
    return Tree(
        folders=(f"bravo/{layout.folder}",),
        images=("",),
        ending=layout.image,
        names=f"(.*/)?{layout.part}/" if layout.part else "",
        labels=((f"{{name}}{layout.label}", "train-ids"),),
        masks=((f"{{name}}{layout.mask}", "nonzero"),),
        withheld=True,
        unless=(layout.label, layout.mask),
    )


_CAMVID = Tree(
    folders=("camvid",),
    images=("{split}",),
    labels=(("{split}annot/{name}.png", "camvid"),),
    listing="{split}.txt",
)
_MASKS = Tree(
    folders=("",),
    images=("{split}",),
    masks=(("{split}/{name}_mask.png", "anomaly"),),
    unless=("_mask.png",),
)
_BRAVO = {name: bravo_tree(layout) for name, layout in MINI_LAYOUT.items()}

ANY = "*"
"""Stands for the splits that the user names."""

TREES: dict[str, dict[str, Tree]] = {
    "mini": {split: cityscapes_tree(split) for split in ("train", "val")} | _BRAVO,
    "cityscapes": {split: cityscapes_tree(split) for split in ("train", "val", "test")},
    "camvid": dict.fromkeys(("train", "val", "test"), _CAMVID),
    "bravo": {name: _BRAVO[name] for name in BRAVO_LAYOUT},
    "masks": {ANY: _MASKS},
}
