"""The field's anomaly sets: where their files lie, as they are published.

Masks become in-distribution, anomaly and void by the tables in ``encodings``. Names of folders are those of the
official downloads and the shorter ones that we use for a data set.

Sources: RoadAnomaly (Lis et al., ICCV 2019; epfl.ch/labs/cvlab/data/road-anomaly), RoadAnomaly21 and RoadObstacle21
(Chan et al., NeurIPS 2021; segmentmeifyoucan.com, splits and encodings as in
github.com/SegmentMeIfYouCan/road-anomaly-benchmark, ``datasets/tracks.py``), Fishyscapes (Blum et al., IJCV 2021;
fishyscapes.com, github.com/hermannsblum/bdl-benchmark), LostAndFound (Pinggera et al., IROS 2016), StreetHazards
(Hendrycks et al., ICML 2022; github.com/hendrycks/anomaly-seg), WD-Pascal (Bevandić et al., GCPR 2019).
"""

from __future__ import annotations

from .trees import Tree


def _smiyc(folder: str, ours: str, names: str, withheld: bool = False) -> Tree:
    return Tree(
        folders=(ours, folder),
        images=("images",),
        names=names,
        masks=(("labels_masks/{name}_labels_semantic.png", "smiyc"),),
        withheld=withheld,
    )


# the benchmark's validation set of obstacles leaves ten of the images with this name out
_OBSTACLE_VALIDATION = r"validation_(?!19|2[1-9])"


def _lost_and_found(split: str, names: str = "") -> Tree:
    return Tree(
        folders=("lostandfound", "dataset_LostAndFound", "LostAndFound"),
        images=(f"leftImg8bit/{split}",),
        ending="_leftImg8bit",
        names=names,
        masks=((f"gtCoarse/{split}/{{name}}_gtCoarse_labelIds.png", "lostandfound"),),
    )


# children and bicycles, which Cityscapes knows; SegmentMeIfYouCan leaves these sequences out
_NO_KNOWN = r"(?!.*(15_Rechbergstr_Deckenpfronn|01_Hanns_Klemm_Str_45_00000[67]|10_Schlossberg_9_000004))"

_FISHYSCAPES_LOST_AND_FOUND = Tree(
    folders=("fishyscapes_lostandfound", "fishyscapes/LostAndFound"),
    images=("",),
    ending="_labels",
    names=r"\d+_(?P<frame>(?P<scene>.+)_\d{6}_\d{6})$",
    masks=(("{name}_labels.png", "smiyc"),),
    pictures=tuple(
        (f"{{root}}/{folder}/leftImg8bit/{split}/{{scene}}/{{frame}}_leftImg8bit.png", "")
        for folder in _lost_and_found("").folders
        for split in ("test", "train")
    ),
    remedy="put the images of LostAndFound beside the masks",
)

# objects pasted into Cityscapes are published as what they add to the colours
_FISHYSCAPES_STATIC = Tree(
    folders=("fs_val_v3", "fishyscapes/Static"),
    images=("",),
    ending="_labels",
    names=r"\d+_(?P<frame>(?P<city>[^_]+)_\d{6}_\d{6})$",
    masks=(("{name}_labels.png", "smiyc"),),
    unless=("_rgb.png", "_rgb.jpg"),
    pictures=(
        ("{name}_rgb.png", ""),
        ("{name}_rgb.jpg", ""),
        ("{root}/cityscapes/leftImg8bit/val/{city}/{frame}_leftImg8bit.png", "{name}_rgb.npz"),
    ),
    remedy="put the validation images of Cityscapes and the overlays (.npz) there, or finished images *_rgb.png",
)


def _street_hazards(part: str, folder: str) -> Tree:
    truth = ((f"{part}/annotations/{folder}/{{name}}.png", "streethazards"),)
    return Tree(
        folders=("streethazards", "StreetHazards"),
        images=(f"{part}/images/{folder}",),
        labels=() if part == "test" else truth,
        masks=truth if part == "test" else (),
    )


TREES: dict[str, dict[str, Tree]] = {
    "roadanomaly": {
        "all": Tree(
            folders=("roadanomaly", "RoadAnomaly_jpg", "dataset_RoadAnomaly"),
            images=("frames",),
            names=r"[^/]+$",
            masks=(("frames/{name}.labels/labels_semantic.png", "roadanomaly"),),
            unless=("labels_semantic.png", "labels_semantic_color.png", "labels_instance.png"),
        )
    },
    "roadanomaly21": {
        "val": _smiyc("dataset_AnomalyTrack", "roadanomaly21", "validation"),
        "test": _smiyc("dataset_AnomalyTrack", "roadanomaly21", "(?!validation)", withheld=True),
    },
    "roadobstacle21": {
        "val": _smiyc("dataset_ObstacleTrack", "roadobstacle21", _OBSTACLE_VALIDATION),
        "test": _smiyc("dataset_ObstacleTrack", "roadobstacle21", "(?!validation)", withheld=True),
    },
    "fishyscapes": {"LostAndFound": _FISHYSCAPES_LOST_AND_FOUND, "Static": _FISHYSCAPES_STATIC},
    "lostandfound": {
        "train": _lost_and_found("train"),
        "test": _lost_and_found("test"),
        "test-no-known": _lost_and_found("test", _NO_KNOWN),
    },
    "streethazards": {
        "train": _street_hazards("train", "training"),
        "val": _street_hazards("train", "validation"),
        "test": _street_hazards("test", "test"),
    },
    "wd-pascal": {
        "all": Tree(folders=("wd-pascal", "wd_pascal"), images=("images",), masks=(("labels/{name}.png", "smiyc"),))
    },
}
