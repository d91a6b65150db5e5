"""Loading of images, labels and masks: layouts, conversions and every kind of bad input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iood_helpers.datasets import BRAVO_LAYOUT, load_dataset
from iood_helpers.datasets.images import read_ids
from iood_helpers.datasets.layouts import MINI_LAYOUT
from iood_helpers.datasets.loading import DATASETS
from iood_helpers.errors import DatasetError

HEIGHT, WIDTH = 36, 48


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def colors(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def labels(ids: int = 19) -> np.ndarray:
    return (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % ids).astype(np.uint8)


def cityscapes_tree(root: Path, count: int = 11, split: str = "train", kind: str = "labelTrainIds") -> Path:
    for i in range(count):
        stem = f"{split}/town/town_{i:06d}_000019"
        save(root / "cityscapes/leftImg8bit" / f"{stem}_leftImg8bit.png", colors(i))
        save(root / "cityscapes/gtFine" / f"{stem}_gtFine_{kind}.png", labels())
    return root


def bravo_tree(root: Path, subset: str, names: tuple[str, ...] = ("a", "b"), truth: bool = True) -> Path:
    layout = MINI_LAYOUT[subset]
    for name in names:
        base = f"bravo/{layout.folder}/{layout.part or 'deep'}/test/{name}"
        save(root / f"{base}{layout.image}.png", colors())
        if truth:
            save(root / f"{base}{layout.label}", labels())
            mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            mask[:5] = 1
            save(root / f"{base}{layout.mask}", mask)
    return root


# layouts


def test_cityscapes_samples_read_image_and_label(tmp_path):
    dataset = load_dataset("cityscapes", "train", cityscapes_tree(tmp_path))
    assert len(dataset) == 11
    assert (dataset.name, dataset.split, dataset.root) == ("cityscapes", "train", tmp_path)
    sample = dataset[3]
    assert (sample.name, sample.subset) == ("town/town_000003_000019", "train")
    np.testing.assert_array_equal(sample.image(), colors(3))
    np.testing.assert_array_equal(sample.label(), labels())
    assert sample.invalid().shape == (HEIGHT, WIDTH) and not sample.invalid().any()
    assert isinstance(dataset[:2], type(dataset)) and len(dataset[:2]) == 2


def test_one_string_and_two_arguments_agree(tmp_path):
    cityscapes_tree(tmp_path)
    assert list(load_dataset("cityscapes/train-fit", root=tmp_path)) == list(
        load_dataset("cityscapes", "train-fit", tmp_path)
    )


def test_fit_and_calibration_divide_the_training_images(tmp_path):
    cityscapes_tree(tmp_path)
    names = {
        split: [sample.name for sample in load_dataset("cityscapes", split, tmp_path)]
        for split in ("train", "train-fit", "train-calibration")
    }
    assert names["train-calibration"] == names["train"][4::5]
    assert sorted(names["train-fit"] + names["train-calibration"]) == names["train"]


def test_limit_takes_the_first_and_a_seed_draws(tmp_path):
    cityscapes_tree(tmp_path)
    everything = list(load_dataset("cityscapes", "train", tmp_path))
    assert list(load_dataset("cityscapes", "train", tmp_path, limit=4)) == everything[:4]
    drawn = [list(load_dataset("cityscapes", "train", tmp_path, limit=4, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(drawn[0], key=lambda sample: sample.name) != everything[:4]
    assert len(load_dataset("cityscapes", "train", tmp_path, limit=99, seed=0)) == 11


def test_stock_cityscapes_label_ids_become_train_ids(tmp_path):
    cityscapes_tree(tmp_path, 1, kind="labelIds")
    stored = np.full((HEIGHT, WIDTH), 3, dtype=np.uint8)
    stored[0, :11] = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23)
    stored[0, 11:19] = (24, 25, 26, 27, 28, 31, 32, 33)
    stem = "cityscapes/gtFine/train/town/town_000000_000019_gtFine_labelIds.png"
    save(tmp_path / stem, stored)
    label = load_dataset("cityscapes", "train", tmp_path)[0].label()
    assert label[0, :19].tolist() == list(range(19))
    assert (label[1:] == 255).all()


def test_train_ids_are_preferred_to_label_ids(tmp_path):
    cityscapes_tree(tmp_path, 2)
    cityscapes_tree(tmp_path, 2, kind="labelIds")
    assert all("TrainIds" in str(s.label_path) for s in load_dataset("cityscapes", "train", tmp_path))


@pytest.mark.parametrize("subset", MINI_LAYOUT)
def test_bravo_subsets(tmp_path, subset):
    bravo_tree(tmp_path, subset)
    if subset in BRAVO_LAYOUT:
        dataset = load_dataset("bravo", subset, tmp_path)
    else:
        dataset = load_dataset("mini", subset, tmp_path)
    part = MINI_LAYOUT[subset].part or "deep"
    assert [sample.name for sample in dataset] == [f"{part}/test/a", f"{part}/test/b"]
    assert {sample.subset for sample in dataset} == {subset}
    for sample in dataset:
        np.testing.assert_array_equal(sample.image(), colors())
        np.testing.assert_array_equal(sample.label(), labels())
        assert sample.invalid().dtype == bool
        assert sample.invalid().sum() == 5 * WIDTH


def test_weather_subsets_share_a_folder_but_no_image(tmp_path):
    for subset in ("ACDCfog", "ACDCrain", "ACDCnight", "ACDCsnow"):
        bravo_tree(tmp_path, subset)
    for subset in ("ACDCfog", "ACDCrain", "ACDCnight", "ACDCsnow"):
        names = [sample.name for sample in load_dataset("bravo", subset, tmp_path)]
        assert names == [f"{subset[4:]}/test/a", f"{subset[4:]}/test/b"]


def test_benchmark_without_public_labels(tmp_path):
    bravo_tree(tmp_path, "synobjs", truth=False)
    sample = load_dataset("bravo", "synobjs", tmp_path)[0]
    assert sample.label() is None and sample.invalid_path is None
    cityscapes_tree(tmp_path, 2, split="test", kind="other")
    assert load_dataset("cityscapes", "test", tmp_path)[0].label() is None


def test_camvid_labels_become_train_ids(tmp_path):
    save(tmp_path / "camvid/val/x.jpg", colors())
    save(tmp_path / "camvid/valannot/x.png", labels(12))
    label = load_dataset("camvid", "val", tmp_path)[0].label()
    pairs = {0: 10, 1: 2, 2: 5, 3: 0, 4: 1, 5: 8, 6: 7, 7: 4, 8: 13, 9: 11, 10: 12, 11: 255}
    for camvid, cityscapes in pairs.items():
        assert (label[labels(12) == camvid] == cityscapes).all()


def test_camvid_list_chooses_the_images(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / f"camvid/test/{name}.png", colors())
        save(tmp_path / f"camvid/testannot/{name}.png", labels(12))
    listing = tmp_path / "camvid/test.txt"
    listing.write_text("c\n/SegNet/CamVid/test/a.png /SegNet/CamVid/testannot/a.png\n\n")
    assert [sample.name for sample in load_dataset("camvid", "test", tmp_path)] == ["a", "c"]
    listing.write_text("a\nz\n")
    with pytest.raises(DatasetError, match=r"test\.txt names z"):
        load_dataset("camvid", "test", tmp_path)


def test_folder_of_masks(tmp_path):
    save(tmp_path / "odd/x.jpg", colors())
    save(tmp_path / "odd/y.PNG", colors())
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[3, 4] = 200
    save(tmp_path / "odd/x_mask.png", mask)
    save(tmp_path / "odd/y_mask.png", mask)
    save(tmp_path / "odd/._x.jpg", colors())
    dataset = load_dataset("masks/odd", root=tmp_path)
    assert [sample.name for sample in dataset] == ["x", "y"]
    assert dataset[0].label() is None
    assert np.argwhere(dataset[1].invalid()).tolist() == [[3, 4]]


def test_root_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("IOOD_DATA", raising=False)
    with pytest.raises(DatasetError, match=r"root=.*IOOD_DATA"):
        load_dataset("cityscapes", "train")
    monkeypatch.setenv("IOOD_DATA", str(cityscapes_tree(tmp_path)))
    assert len(load_dataset("cityscapes", "train")) == 11


# bad datasets


def test_unknown_dataset_or_split(tmp_path):
    with pytest.raises(DatasetError, match=r"no dataset 'kiti'.*mini, cityscapes"):
        load_dataset("kiti", "train", tmp_path)
    with pytest.raises(DatasetError, match=r"no split 'training'.*train-fit"):
        load_dataset("cityscapes/training", root=tmp_path)
    with pytest.raises(DatasetError, match=r"no split ''.*ACDCfog"):
        load_dataset("mini")
    with pytest.raises(DatasetError, match="no split 'devobjs'"):
        load_dataset("bravo", "devobjs", tmp_path)
    with pytest.raises(DatasetError, match="folder"):
        load_dataset("masks", root=tmp_path)
    with pytest.raises(DatasetError, match="twice"):
        load_dataset("mini/val", "train")
    with pytest.raises(DatasetError, match="limit of 0"):
        load_dataset("cityscapes/train", root=tmp_path, limit=0)


def test_missing_folder_and_empty_split(tmp_path):
    with pytest.raises(DatasetError, match=r"leftImg8bit/train does not exist"):
        load_dataset("cityscapes", "train", tmp_path)
    cityscapes_tree(tmp_path, 3)
    with pytest.raises(DatasetError, match=r"cityscapes/train-calibration .* holds no images"):
        load_dataset("cityscapes", "train-calibration", tmp_path)
    (tmp_path / "bravo/bravo_synobjs").mkdir(parents=True)
    with pytest.raises(DatasetError, match="bravo/synobjs .* holds no images"):
        load_dataset("bravo", "synobjs", tmp_path)


def test_image_without_label_or_mask(tmp_path):
    cityscapes_tree(tmp_path, 3)
    gone = tmp_path / "cityscapes/gtFine/train/town/town_000001_000019_gtFine_labelTrainIds.png"
    gone.unlink()
    with pytest.raises(DatasetError, match="town_000001_000019.* has no label file"):
        load_dataset("cityscapes", "train", tmp_path)
    bravo_tree(tmp_path, "SMIYC")
    (tmp_path / "bravo/bravo_SMIYC/deep/test/b_labels_semantic.png").unlink()
    with pytest.raises(DatasetError, match="b.png has no mask"):
        load_dataset("bravo", "SMIYC", tmp_path)


def test_one_image_in_two_formats(tmp_path):
    cityscapes_tree(tmp_path, 2)
    save(
        tmp_path / "cityscapes/leftImg8bit/train/town/town_000001_000019_leftImg8bit.jpg",
        colors(),
    )
    with pytest.raises(DatasetError, match="town_000001_000019 .* two formats"):
        load_dataset("cityscapes", "train", tmp_path)


@pytest.fixture
def sample(tmp_path):
    return load_dataset("bravo", "synobjs", bravo_tree(tmp_path, "synobjs"))[0]


@pytest.mark.parametrize("bad", [19, 33, 254])
def test_label_ids_out_of_range(sample, bad):
    label = labels()
    label[2, 2] = bad
    save(sample.label_path, label)
    with pytest.raises(DatasetError, match=rf"{sample.label_path.name} holds the ids {bad};"):
        sample.label()


def test_label_and_mask_of_another_size(sample):
    save(sample.label_path, labels()[:-1])
    with pytest.raises(DatasetError, match=r"a_gt\.png has 35x48 .*/a\.png has 36x48"):
        sample.label()
    save(sample.invalid_path, np.zeros((HEIGHT, WIDTH + 2), dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"a_mask\.png has 36x50"):
        sample.invalid()


def test_truncated_files(sample):
    for path, read in (
        (sample.label_path, sample.label),
        (sample.invalid_path, sample.invalid),
        (sample.image_path, sample.image),
    ):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(DatasetError, match=rf"{path.name} cannot be read"):
            read()


def test_label_formats_whose_values_fit(sample):
    label = labels()
    save(sample.label_path, label.astype(np.uint16))
    np.testing.assert_array_equal(sample.label(), label)
    save(sample.label_path, np.repeat(label[..., None], 3, axis=-1))
    np.testing.assert_array_equal(sample.label(), label)
    alpha = np.full_like(label, 255)
    save(sample.label_path, np.stack([label, label, label, alpha], axis=-1))
    np.testing.assert_array_equal(sample.label(), label)
    palette = Image.fromarray(label, mode="L").convert("P")
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(sample.label_path)
    np.testing.assert_array_equal(sample.label(), np.asarray(Image.open(sample.label_path)))


def test_label_formats_whose_values_do_not_fit(sample):
    save(sample.label_path, labels().astype(np.uint16) + 1000)
    with pytest.raises(DatasetError, match="1018"):
        sample.label()
    save(sample.label_path, colors())
    with pytest.raises(DatasetError, match="colours"):
        sample.label()
    Image.fromarray(labels().astype(np.float32)).save(sample.label_path.with_suffix(".tif"))
    with pytest.raises(DatasetError, match="mode F"):
        read_ids(sample.label_path.with_suffix(".tif"))


# shipped and real data


@pytest.mark.parametrize("split", DATASETS["mini"])
def test_mini_split_reads(split):
    dataset = load_dataset("mini", split)
    assert {sample.subset for sample in dataset} <= {split, "train"}
    for sample in dataset[:2]:
        label, invalid = sample.label(), sample.invalid()
        assert sample.image().shape == (192, 384, 3)
        assert label.shape == invalid.shape == (192, 384)
        assert set(np.unique(label)) <= {*range(19), 255}
    if split in ("SMIYC", "synobjs", "devobjs", "newobjs"):
        assert all(sample.invalid().any() for sample in dataset[:5])


def test_mini_has_enough_scenes_to_measure():
    for subset in BRAVO_LAYOUT:
        assert len(load_dataset("mini", subset)) >= (60 if subset in ("SMIYC", "synobjs") else 15)


@pytest.fixture
def real_root():
    root = os.environ.get("IOOD_DATA")
    if not root or not Path(root, "camvid").is_dir():
        pytest.skip("IOOD_DATA names no folder with camvid/ and ood_official/")
    return root


@pytest.mark.real_data
def test_real_camvid(real_root):
    counts = {split: len(load_dataset("camvid", split, real_root)) for split in ("train", "val", "test")}
    assert counts == {"train": 367, "val": 101, "test": 233}
    sample = load_dataset("camvid", "test", real_root)[100]
    assert sample.image().shape == (*sample.label().shape, 3) == (360, 480, 3)
    assert {0, 2, 10} <= set(np.unique(sample.label()))


@pytest.mark.real_data
def test_real_photographs_with_anomalies(real_root):
    dataset = load_dataset("masks/ood_official", root=real_root)
    assert len(dataset) == 14
    for sample in dataset:
        assert sample.invalid().shape == sample.image().shape[:2]
        assert 0.01 < sample.invalid().mean() < 0.4


def test_a_label_map_with_a_flipped_bit_is_read_as_it_was_or_refused(tmp_path):
    ids = np.random.default_rng(0).integers(0, 4, (40, 50)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(ids).save(path)
    content, refused = path.read_bytes(), 0
    # Pillow's decoder looks at no checksum: of such flips, one in ten gives other ids without a word
    for place in range(41, len(content) - 16, 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            assert np.array_equal(read_ids(path), ids), place
        except DatasetError as error:
            refused += 1
            assert "a.png" in str(error)
    assert refused > 100
