"""Other people's data sets, each built as it is published: what is found, what its numbers mean, what is refused."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_datasets import HEIGHT, WIDTH, colors, save

from iood_helpers.datasets import load_dataset
from iood_helpers.datasets.check import check, main
from iood_helpers.datasets.encodings import COLORS, MAPILLARY_NAMES
from iood_helpers.datasets.labels import CLASS_NAMES, LABEL_TABLES
from iood_helpers.datasets.loading import DATASETS, VIRTUAL
from iood_helpers.errors import DatasetError


def stored(*values: int) -> np.ndarray:
    """A map whose first pixels have these values, the others the last of them."""
    flat = np.full(HEIGHT * WIDTH, values[-1], dtype=np.uint8)
    flat[: len(values)] = values
    return flat.reshape(HEIGHT, WIDTH)


LOST = "leftImg8bit/{0}/04_Maurener_Weg_8/04_Maurener_Weg_8_000000_000030_leftImg8bit.png"
LOST_MASK = "gtCoarse/{0}/04_Maurener_Weg_8/04_Maurener_Weg_8_000000_000030_gtCoarse_labelIds.png"
FISHY = "fishyscapes_lostandfound/0000_04_Maurener_Weg_8_000000_000030_labels.png"

MASKS = {
    "roadanomaly/all": (
        "RoadAnomaly_jpg",
        "frames/animals01_Guiguinto_railway_station_Calves.jpg",
        "frames/animals01_Guiguinto_railway_station_Calves.labels/labels_semantic.png",
        (0, 2, 0),
    ),
    "roadanomaly21/val": (
        "dataset_AnomalyTrack",
        "images/validation0000.jpg",
        "labels_masks/validation0000_labels_semantic.png",
        (0, 1, 255),
    ),
    "roadobstacle21/val": (
        "dataset_ObstacleTrack",
        "images/validation_1.webp",
        "labels_masks/validation_1_labels_semantic.png",
        (0, 1, 255),
    ),
    "fishyscapes/LostAndFound": ("", f"lostandfound/{LOST.format('test')}", FISHY, (0, 1, 255)),
    "fishyscapes/Static": (
        "fs_val_v3",
        "0000_frankfurt_000001_046504_rgb.png",
        "0000_frankfurt_000001_046504_labels.png",
        (0, 1, 255),
    ),
    "lostandfound/train": ("lostandfound", LOST.format("train"), LOST_MASK.format("train"), (1, 43, 0)),
    "lostandfound/test": ("dataset_LostAndFound", LOST.format("test"), LOST_MASK.format("test"), (1, 2, 0)),
    "streethazards/test": (
        "streethazards",
        "test/images/test/t5/300.png",
        "test/annotations/test/t5/300.png",
        (1, 14, 0),
    ),
    "wd-pascal/all": ("wd-pascal", "images/de0001_100000.png", "labels/de0001_100000.png", (0, 1, 255)),
}
"""Folder, image, mask, and the values there of an in-distribution pixel, an anomaly and void."""

VOID = 255
LABELS = {
    "acdc/fog/val": (
        "acdc",
        "rgb_anon/fog/val/GOPR0476/GOPR0476_frame_000854_rgb_anon.png",
        "gt/fog/val/GOPR0476/GOPR0476_frame_000854_gt_labelTrainIds.png",
        {0: "road", 13: "car", 255: None},
    ),
    "bdd100k/val": (
        "bdd100k",
        "images/10k/val/7d06fefd-f7be05a6.jpg",
        "labels/sem_seg/masks/val/7d06fefd-f7be05a6.png",
        {0: "road", 18: "bicycle", 255: None},
    ),
    "bdd100k/train": (
        "bdd100k",
        "seg/images/train/0a0a0b1a-7c39d841.jpg",
        "seg/labels/train/0a0a0b1a-7c39d841_train_id.png",
        {0: "road", 18: "bicycle", 255: None},
    ),
    "kitti/train": (
        "data_semantics",
        "training/image_2/000000_10.png",
        "training/semantic/000000_10.png",
        {7: "road", 26: "car", 4: None},
    ),
    "idd/train": (
        "IDD_Segmentation",
        "leftImg8bit/train/0/005506_leftImg8bit.png",
        "gtFine/train/0/005506_gtFine_labelids.png",
        {0: "road", 12: "car", 11: None, 5: "terrain", 32: "vegetation", 39: None},
    ),
    "idd/val": (
        "idd20kII",
        "leftImg8bit/val/201/frame0029_leftImg8bit.jpg",
        "gtFine/val/201/frame0029_gtFine_labelcsTrainIds.png",
        {0: "road", 13: "car", 255: None},
    ),
    "mapillary-v1.2/train": (
        "mapillary",
        "training/images/aGEmDlgyKj.jpg",
        "training/labels/aGEmDlgyKj.png",
        {13: "road", 2: "sidewalk", 17: "building", 58: "train", 49: None, 50: "traffic sign", 0: None, 65: None},
    ),
    "mapillary-v1.2/val": (
        "mapillary-vistas-dataset_public_v1.2",
        "validation/images/aGEmDlgyKj.jpg",
        "validation/v1.2/labels/aGEmDlgyKj.png",
        {55: "car", 52: "bicycle", 65: None},
    ),
    "mapillary-v2.0/val": (
        "mapillary-vistas-dataset_public_v2.0",
        "validation/images/aGEmDlgyKj.jpg",
        "validation/v2.0/labels/aGEmDlgyKj.png",
        {21: "road", 108: "car", 28: "building", 25: "sidewalk", 58: "road", 93: "traffic light", 97: None, 123: None},
    ),
    "streethazards/train": (
        "streethazards",
        "train/images/training/t1-3/1.png",
        "train/annotations/training/t1-3/1.png",
        {7: "road", 8: "road", 11: "car", 1: None, 4: None, 14: None},
    ),
}
"""Folder, image, label map, and the classes of stored ids."""


def build(root: Path, folder: str, image: str, truth: str, values: np.ndarray) -> Path:
    save(root / folder / image, colors())
    save(root / folder / truth, values)
    return root


@pytest.mark.parametrize("name", MASKS)
def test_masks_say_in_distribution_anomaly_and_void(tmp_path, name):
    folder, image, mask, values = MASKS[name]
    (sample,) = load_dataset(name, root=build(tmp_path, folder, image, mask, stored(*values)))
    assert sample.image().shape == (HEIGHT, WIDTH, 3) and sample.label() is None
    assert sample.invalid().sum() == 1 and sample.invalid()[0, 1]
    void = np.ones((HEIGHT, WIDTH), bool) & (values[2] != values[0])
    void[0, :2] = False
    np.testing.assert_array_equal(sample.void(), void)


@pytest.mark.parametrize("name", [name for name in MASKS if not name.startswith("lostandfound")])
def test_other_values_in_a_mask_are_refused(tmp_path, name):
    folder, image, mask, values = MASKS[name]
    (sample,) = load_dataset(name, root=build(tmp_path, folder, image, mask, stored(77, values[0])))
    for read in (sample.invalid, sample.void):
        with pytest.raises(DatasetError, match=rf"The mask .*{Path(mask).name} holds the values 77, which mean"):
            read()


@pytest.mark.parametrize("name", LABELS)
def test_label_maps_become_train_ids(tmp_path, name):
    folder, image, label, classes = LABELS[name]
    build(tmp_path, folder, image, label, stored(*classes))
    for root in (tmp_path, tmp_path / folder):  # a user may name either
        (sample,) = load_dataset(name, root=root)
        found = sample.label().ravel()[: len(classes)].tolist()
        assert [None if i == VOID else CLASS_NAMES[i] for i in found] == list(classes.values())
        assert not sample.invalid().any() and not sample.void().any()


@pytest.mark.parametrize("name", ["idd/train", "mapillary-v1.2/train", "mapillary-v2.0/val", "streethazards/train"])
def test_ids_that_a_data_set_has_not_are_refused(tmp_path, name):
    folder, image, label, _ = LABELS[name]
    (sample,) = load_dataset(name, root=build(tmp_path, folder, image, label, stored(200, 0)))
    with pytest.raises(DatasetError, match=rf"{Path(label).name} holds the ids 200; store the ids 0\.\."):
        sample.label()


def test_mapillary_names_stand_in_the_order_of_their_ids():
    """Those of mmseg come from the same files of the data set."""
    from mmseg.datasets.mapillary import MapillaryDataset_v1, MapillaryDataset_v2

    assert MAPILLARY_NAMES["mapillary-v1.2"] == MapillaryDataset_v1.METAINFO["classes"]
    assert MAPILLARY_NAMES["mapillary-v2.0"] == MapillaryDataset_v2.METAINFO["classes"]


@pytest.mark.parametrize("encoding, ids", [("mapillary-v1.2", 66), ("mapillary-v2.0", 124), ("idd", 40)])
def test_every_class_of_cityscapes_occurs(encoding, ids):
    table = LABEL_TABLES[encoding]
    assert set(table[:ids].tolist()) == {*range(19), VOID} and (table[ids:VOID] > 19).all()


# colours


def test_labelmefacade_has_colours(tmp_path):
    classes = COLORS["labelmefacade"]
    label = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    label[0, : len(classes), :3] = list(classes)
    label[..., 3] = 255
    build(tmp_path, "labelmefacade", "images/static_street_boston__p1010736.jpg", "labels/p.png", label)
    (tmp_path / "labelmefacade/labels/p.png").rename(
        tmp_path / "labelmefacade/labels/static_street_boston__p1010736.png"
    )
    (sample,) = load_dataset("labelmefacade", root=tmp_path)
    found = sample.label()[0, : len(classes)].tolist()
    assert [None if i == VOID else CLASS_NAMES[i] for i in found] == list(classes.values())
    assert (sample.label()[1:] == VOID).all()
    label[5, 5] = (128, 0, 1, 255)
    save(sample.label_path, label)
    with pytest.raises(DatasetError, match=r"p1010736\.png holds the colour 128:0:1, which no class"):
        sample.label()
    save(sample.label_path, stored(0))
    with pytest.raises(DatasetError, match=r"p1010736\.png holds no colours"):
        sample.label()


# which images belong to a split


def test_the_official_validation_sets(tmp_path):
    for track, names in {
        "AnomalyTrack": ("validation0000.jpg", "validation0009.jpg", "airplane0000.jpg"),
        "ObstacleTrack": ("validation_2.webp", "validation_20.webp", "validation_21.webp", "driveway_1.webp"),
    }.items():
        for name in names:
            save(tmp_path / f"dataset_{track}/images/{name}", colors())
            if name.startswith("validation"):
                mask = f"dataset_{track}/labels_masks/{Path(name).stem}_labels_semantic"
                save(tmp_path / f"{mask}.png", stored(0, 1))
                save(tmp_path / f"{mask}_color.png", colors())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = {name: [s.name for s in load_dataset(name, root=tmp_path)] for name in MASKS if "21/" in name}
    assert names["roadanomaly21/val"] == ["validation0000", "validation0009"]
    assert names["roadobstacle21/val"] == ["validation_2", "validation_20"]
    (withheld,) = load_dataset("roadobstacle21/test", root=tmp_path)
    assert withheld.name == "driveway_1" and withheld.invalid_path is None


def test_files_that_the_annotation_tool_leaves_are_no_images(tmp_path):
    folder, image, mask, values = MASKS["roadanomaly/all"]
    build(tmp_path, folder, image, mask, stored(*values))
    for name in ("labels_semantic_color", "labels_instance"):
        save((tmp_path / folder / mask).with_name(f"{name}.png"), colors())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_dataset("roadanomaly", root=tmp_path)) == 1


def test_what_cityscapes_knows_is_left_out_of_lost_and_found(tmp_path):
    for scene, frame in {
        "04_Maurener_Weg_8": "000000_000030",
        "15_Rechbergstr_Deckenpfronn": "000001_000010",
        "01_Hanns_Klemm_Str_45": "000006_000010",
        "10_Schlossberg_9": "000004_000010",
    }.items():
        stem = f"{scene}/{scene}_{frame}"
        save(tmp_path / f"lostandfound/leftImg8bit/test/{stem}_leftImg8bit.png", colors())
        save(tmp_path / f"lostandfound/gtCoarse/test/{stem}_gtCoarse_labelIds.png", stored(1))
    assert len(load_dataset("lostandfound/test", root=tmp_path)) == 4
    (sample,) = load_dataset("lostandfound/test-no-known", root=tmp_path)
    assert sample.name == "04_Maurener_Weg_8/04_Maurener_Weg_8_000000_000030"


def test_weathers_of_acdc_are_splits_and_its_reference_images_none(tmp_path):
    for weather in ("fog", "night"):
        stem = f"{weather}/train/GOPR0475/GOPR0475_frame_000041"
        save(tmp_path / f"acdc/rgb_anon/{stem}_rgb_anon.png", colors())
        save(tmp_path / f"acdc/gt/{stem}_gt_labelIds.png", stored(7))
        save(tmp_path / f"acdc/rgb_anon/{stem.replace('train', 'train_ref')}_rgb_ref_anon.png", colors())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [s.name.split("/")[0] for s in load_dataset("acdc/train", root=tmp_path)] == ["fog", "night"]
    assert [s.name.split("/")[0] for s in load_dataset("acdc/night/train", root=tmp_path)] == ["night"]
    assert len(load_dataset("acdc/train-fit", root=tmp_path)) == 2
    with pytest.raises(DatasetError, match=r"The split acdc/snow/train below .* holds no images"):
        load_dataset("acdc/snow/train", root=tmp_path)


# Fishyscapes


def static(root: Path, overlay: np.ndarray) -> Path:
    save(root / "cityscapes/leftImg8bit/val/frankfurt/frankfurt_000001_046504_leftImg8bit.png", colors())
    save(root / "fs_val_v3/0000_frankfurt_000001_046504_labels.png", stored(1, 0))
    np.savez(root / "fs_val_v3/0000_frankfurt_000001_046504_rgb.npz", rgb=overlay)
    return root


def test_fishyscapes_static_is_added_to_cityscapes(tmp_path):
    overlay = np.zeros((HEIGHT, WIDTH, 3), np.int16)
    overlay[0, 0], overlay[0, 1], overlay[0, 2] = 300, -300, 5
    (sample,) = load_dataset("fishyscapes/Static", root=static(tmp_path, overlay))
    expected = colors().astype(int)
    expected[0, 0], expected[0, 1], expected[0, 2] = 255, 0, np.minimum(expected[0, 2] + 5, 255)
    np.testing.assert_array_equal(sample.image(), expected)
    assert np.argwhere(sample.invalid()).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    "overlay",
    [
        np.zeros((HEIGHT, WIDTH + 1, 3), np.int16),
        np.zeros((WIDTH, HEIGHT, 3), np.int16),
        np.full((HEIGHT, WIDTH, 3), "x"),
        np.array([object()]),
    ],
)
def test_an_overlay_of_another_kind_is_refused(tmp_path, overlay):
    (sample,) = load_dataset("fishyscapes/Static", root=static(tmp_path, overlay))
    with pytest.raises(DatasetError, match=r"The overlay .*_rgb\.npz cannot be read"):
        sample.image()


def test_a_damaged_overlay_is_refused_and_a_missing_one_told(tmp_path):
    (sample,) = load_dataset("fishyscapes/Static", root=static(tmp_path, np.zeros((HEIGHT, WIDTH, 3), np.int16)))
    content = sample.overlay_path.read_bytes()
    sample.overlay_path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"_rgb\.npz cannot be read"):
        sample.image()
    sample.overlay_path.unlink()
    with pytest.raises(DatasetError, match=r"The mask .*_labels\.png has no overlay: .*_rgb\.npz does not exist"):
        load_dataset("fishyscapes/Static", root=tmp_path)


def test_masks_without_the_images_of_lost_and_found(tmp_path):
    save(tmp_path / FISHY, stored(0))
    with pytest.raises(DatasetError, match=r"has no image: .*put the images of LostAndFound beside the masks"):
        load_dataset("fishyscapes/LostAndFound", root=tmp_path)


# what is missing


def test_missing_files_are_counted_and_the_remedy_is_named(tmp_path):
    for number in range(4):
        save(tmp_path / f"idd/leftImg8bit/train/0/{number:06d}_leftImg8bit.png", colors())
    with pytest.raises(DatasetError, match=r"000000_left.* has no label .*and 3 more are missing.*createLabels"):
        load_dataset("idd/train", root=tmp_path)
    with pytest.raises(DatasetError, match=r"roadanomaly/frames does not exist"):
        load_dataset("roadanomaly", root=tmp_path)


def test_check_tells_what_is_there_missing_and_damaged(tmp_path, capsys):
    folder, image, mask, _ = MASKS["roadanomaly21/val"]
    for number in range(4):
        build(
            tmp_path, folder, image.replace("0000", f"000{number}"), mask.replace("0000", f"000{number}"), stored(0, 1)
        )
    (tmp_path / folder / mask.replace("0000", "0002")).unlink()
    broken = tmp_path / folder / image.replace("0000", "0003")
    broken.write_bytes(broken.read_bytes()[:300])
    val, test = check("roadanomaly21", tmp_path)
    assert (val.complete, val.tried, val.usable, val.masks, val.labels) == (3, 3, 2, 2, 0)
    assert val.pixels == {"in-distribution": 2, "anomaly": 2 * HEIGHT * WIDTH - 2, "void": 0}
    assert "validation0002.jpg has no mask" in val.faults[0] and "validation0003.jpg cannot be read" in val.faults[1]
    assert not test.usable
    assert main(["check", "roadanomaly21", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "roadanomaly21/val: 3 images with all files; of 3 read, 2 good (48 x 36)" in out
    assert "anomaly 99.94%, in-distribution 0.06%" in out and "no pixel of: void" in out
    assert "roadanomaly21/test: nothing usable" in out
    assert main(["check", "roadanomaly21/test", str(tmp_path)]) == 1
    assert main(["check", "roadanomaly22", str(tmp_path)]) == 1
    assert "There is no dataset 'roadanomaly22'" in capsys.readouterr().err


def test_check_counts_classes_and_void_once(tmp_path):
    save(tmp_path / "bravo/bravo_synobjs/a.png", colors())
    save(tmp_path / "bravo/bravo_synobjs/a_gt.png", stored(0, 255, 255, 13))
    save(tmp_path / "bravo/bravo_synobjs/a_mask.png", stored(0, 0, 1, 1, 0))
    (report,) = check("bravo/synobjs", tmp_path)
    rest = HEIGHT * WIDTH - 4
    assert {k: v for k, v in report.pixels.items() if v} == {"road": 1, "void": 1, "anomaly": 2, "car": rest}
    assert report.pixels.total() == HEIGHT * WIDTH


def test_check_reads_parts_folders_of_the_user_and_as_many_as_asked(tmp_path):
    for number in range(7):
        save(tmp_path / f"mine/{number}.png", colors())
        save(tmp_path / f"mine/{number}_mask.png", stored(0, 1))
    (report,) = check("masks/mine", tmp_path, limit=3)
    assert (report.complete, report.tried, report.usable) == (7, 3, 3)
    (report,) = check("mini/train-fit", None, limit=1)
    assert report.usable == 1 and report.labels == 1


def test_check_counts_the_images_of_a_part_not_of_the_whole():
    complete = {}
    for split in ("train", *VIRTUAL):
        (report,) = check(f"mini/{split}", None, limit=1)
        complete[split] = report.complete
        assert report.complete == len(load_dataset(f"mini/{split}"))
    assert complete["train"] == sum(complete[part] for part in VIRTUAL) == 5 * complete["train-calibration"]


def test_the_book_lists_every_data_set_and_its_splits():
    entries = re.findall(r"^- (`.+)$", (ROOT / "book/datasets.md").read_text(), re.MULTILINE)
    assert {entry[1:].partition("/")[0] for entry in entries} == set(DATASETS)
    for name in set(DATASETS) - {"mini", "bravo", "masks"}:
        text = " ".join(entry for entry in entries if entry.startswith(f"`{name}/"))
        for split in set(DATASETS[name]) - set(VIRTUAL):
            assert f"/{split}`" in text or "/" in split, (name, split)


@pytest.fixture
def real_root():
    root = os.environ.get("IOOD_DATA")
    if not root or not Path(root, "roadanomaly").is_dir():
        pytest.skip("IOOD_DATA names no folder with roadanomaly/")
    return root


@pytest.mark.real_data
def test_real_road_anomaly(real_root):
    (report,) = check("roadanomaly", real_root)
    assert report.usable == report.complete == report.masks in (30, 60) and not report.faults
    assert report.sizes == {(720, 1280): report.usable}
    assert 0.05 < report.pixels["anomaly"] / report.pixels.total() < 0.2
