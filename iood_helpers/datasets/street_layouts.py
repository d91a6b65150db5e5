"""Ordinary street scenes beside Cityscapes: where their files lie, as they are published.

Label maps become train ids by the tables in ``encodings``. Names of folders are those of the official downloads and the
shorter ones that we use for a data set.

Sources: ACDC (Sakaridis et al., ICCV 2021; acdc.vision.ee.ethz.ch), BDD100K (Yu et al., CVPR 2020; doc.bdd100k.com),
KITTI (Alhaija et al., IJCV 2018; cvlibs.net/datasets/kitti/eval_semseg.php), IDD (Varma et al., WACV 2019;
github.com/AutoNUE/public-code), Mapillary Vistas (Neuhold et al., ICCV 2017; mapillary.com/dataset/vistas),
LabelMeFacade (Fröhlich et al., ICPR 2010; github.com/cvjena/labelmefacade).
"""

from __future__ import annotations

from .trees import Tree

_SPLITS = ("train", "val", "test")


def _acdc(weather: str, split: str) -> Tree:
    return Tree(
        folders=("acdc", "ACDC"),
        images=("rgb_anon",),
        ending="_rgb_anon",
        names=f"{weather}/{split}/",
        labels=(
            ("gt/{name}_gt_labelTrainIds.png", "train-ids"),
            ("gt/{name}_gt_labelIds.png", "label-ids"),
        ),
        withheld=split == "test",
        unless=("_rgb_ref_anon.png",),  # the same places in fine weather
    )


_WEATHER = ("fog", "night", "rain", "snow")
_ACDC = {split: _acdc(f"({'|'.join(_WEATHER)})", split) for split in _SPLITS} | {
    f"{weather}/{split}": _acdc(weather, split) for weather in _WEATHER for split in _SPLITS
}


def _bdd100k(split: str) -> Tree:
    return Tree(
        folders=("bdd100k",),
        images=("images/10k/{split}", "seg/images/{split}"),
        labels=(
            ("labels/sem_seg/masks/{split}/{name}.png", "train-ids"),
            ("seg/labels/{split}/{name}_train_id.png", "train-ids"),
        ),
        withheld=split == "test",
    )


def _kitti(folder: str) -> Tree:
    return Tree(
        folders=("kitti", "data_semantics", "KITTI"),
        images=(f"{folder}/image_2",),
        labels=((f"{folder}/semantic/{{name}}.png", "label-ids"),),
        withheld=folder == "testing",
    )


def _idd(split: str) -> Tree:
    return Tree(
        folders=("idd", "IDD_Segmentation", "idd20kII"),
        images=("leftImg8bit/{split}",),
        ending="_leftImg8bit",
        labels=(
            ("gtFine/{split}/{name}_gtFine_labelcsTrainIds.png", "train-ids"),
            ("gtFine/{split}/{name}_gtFine_labelids.png", "idd"),
        ),
        withheld=split == "test",
        remedy="make label maps from the polygons with AutoNUE's createLabels.py --id-type csTrainId",
    )


def _mapillary(folder: str, *labels: str, encoding: str) -> Tree:
    return Tree(
        folders=(encoding, "mapillary", f"mapillary-vistas-dataset_public_{encoding.rsplit('-', 1)[1]}"),
        images=(f"{folder}/images",),
        labels=tuple((f"{folder}/{place}/{{name}}.png", encoding) for place in labels),
        withheld=folder == "testing",
    )


_MAPILLARY = {"train": "training", "val": "validation", "test": "testing"}

TREES: dict[str, dict[str, Tree]] = {
    "acdc": _ACDC,
    "bdd100k": {split: _bdd100k(split) for split in _SPLITS},
    "kitti": {"train": _kitti("training"), "test": _kitti("testing")},
    "idd": {split: _idd(split) for split in _SPLITS},
    "mapillary-v1.2": {
        split: _mapillary(folder, "v1.2/labels", "labels", encoding="mapillary-v1.2")
        for split, folder in _MAPILLARY.items()
    },
    "mapillary-v2.0": {
        split: _mapillary(folder, "v2.0/labels", encoding="mapillary-v2.0") for split, folder in _MAPILLARY.items()
    },
    "labelmefacade": {
        "all": Tree(folders=("labelmefacade",), images=("images",), labels=(("labels/{name}.png", "labelmefacade"),))
    },
}
