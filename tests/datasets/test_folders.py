"""What folders, lists and masks of other people hold: read as meant, told, or refused in a sentence."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from test_datasets import HEIGHT, WIDTH, bravo_tree, cityscapes_tree, colors, labels, save

from iood_helpers import io as paths
from iood_helpers.bravo.accumulator import BravoAccumulator
from iood_helpers.datasets import load_dataset
from iood_helpers.datasets.folders import find_images, read_list
from iood_helpers.errors import DatasetError, FileError


def names(folder, *rest):
    return [name for name, _ in find_images(folder, *rest)]


# folders


def test_links_to_folders_are_followed_once(tmp_path):
    cityscapes_tree(tmp_path / "here", 2)
    cityscapes_tree(tmp_path / "there", 3)
    for part in ("leftImg8bit", "gtFine"):
        town = tmp_path / "there/cityscapes" / part / "train/town"
        os.symlink(town, tmp_path / "here/cityscapes" / part / "train/linked")
        os.symlink(town, tmp_path / "here/cityscapes" / part / "train/linked-again")
        os.symlink(tmp_path / "here", town / "back")  # a loop
    with pytest.warns(UserWarning, match="folders reached a second time") as told:
        found = load_dataset("cityscapes/train", root=tmp_path / "here")
    assert len(told) == 1
    assert [s.name.split("/")[0] for s in found] == ["linked"] * 3 + ["town"] * 2
    assert found[0].label() is not None


def test_hidden_and_derived_pictures_are_left_out(tmp_path):
    for name in ("a", "b_color", "b", ".c", ".git/d", "__MACOSX/e", "a_labels_semantic_color", "f_mask", "deep/a_gt"):
        save(tmp_path / f"{name}.png", colors())
    save(tmp_path / "@eaDir/a/SYNOFILE_THUMB_M.jpg", colors())
    # b_color and a_labels... come from b and a; of f and deep/a there is no image that they could come from
    with pytest.warns(UserWarning, match=r": 2 files made from an image beside them \(such as a_labels_semantic_color"):
        assert names(tmp_path) == ["a", "b", "deep/a_gt", "f_mask"]


@pytest.mark.parametrize("ending", ["gtFine_color", "gtFine_labelIds", "gt_invIds", "labels_semantic", "mask", "conf"])
def test_endings_of_derived_pictures(tmp_path, ending):
    for name in ("a", f"a_{ending}", f"a_{ending}_2"):
        save(tmp_path / f"{name}.png", colors())
    with pytest.warns(UserWarning, match=rf"1 files made from .*a_{ending}\.png"):
        assert names(tmp_path) == ["a", f"a_{ending}_2"]


def test_names_that_do_not_end_as_they_should_are_told(tmp_path):
    cityscapes_tree(tmp_path, 2)
    save(tmp_path / "cityscapes/leftImg8bit/train/town/mine.png", colors())
    with pytest.warns(UserWarning, match=r"1 files whose names do not end in _leftImg8bit \(such as mine.png\)"):
        assert len(load_dataset("cityscapes/train", root=tmp_path)) == 2


def test_nothing_is_told_where_nothing_is_unusual(tmp_path):
    for subset in ("ACDCfog", "SMIYC", "synobjs", "synrain"):
        bravo_tree(tmp_path, subset)
    save(tmp_path / "bravo/bravo_ACDC/fog/test/a_gt_labelColor.png", colors())
    cityscapes_tree(tmp_path, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for split in ("bravo/ACDCfog", "bravo/SMIYC", "bravo/synobjs", "bravo/synrain", "cityscapes/train"):
            assert len(load_dataset(split, root=tmp_path)) == 2


def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    """A town on a disk that is not there would be left out without a word."""
    cityscapes_tree(tmp_path, 2)
    town = tmp_path / "cityscapes/leftImg8bit/train/bochum"
    for target in (tmp_path / "disk/bochum", town):
        os.symlink(target, town)
        with pytest.raises(DatasetError, match="The target of the link .*/bochum does not exist"):
            load_dataset("cityscapes/train", root=tmp_path)
        town.unlink()


@pytest.mark.parametrize(
    "dataset, root",
    [
        ("masks/" + "x" * 300, "."),
        ("masks/a\0b", "."),
        ("camvid/val", "~no-such-user"),
        ("masks/a", 3),
        (3, "."),
    ],
)
def test_names_and_places_that_cannot_be_are_refused(dataset, root):
    with pytest.raises(DatasetError):
        load_dataset(dataset, root=root)


def test_a_relative_root_counts_from_where_the_user_stands(tmp_path, monkeypatch):
    cityscapes_tree(tmp_path / "here", 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IOOD_DATA", "here")
    sample = load_dataset("cityscapes/train")[0]
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(sample.image(), colors(0))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_dataset("cityscapes/train", root="~/here")) == 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "webp", "bmp", "tif", "TIFF"])
def test_every_readable_format_is_found_and_read(tmp_path, suffix):
    save(tmp_path / f"masks/a.{suffix}", colors())
    save(tmp_path / "masks/a_mask.png", labels(2))
    sample = load_dataset("masks/masks", root=tmp_path)[0]
    assert sample.image().shape == (HEIGHT, WIDTH, 3) and sample.invalid().sum() == HEIGHT * WIDTH // 2


def test_pictures_in_other_formats_are_told(tmp_path):
    save(tmp_path / "a.png", colors())
    for name in ("b.heic", "c.HEIC", "d.avif", "e.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"1 \.avif files .*such as d\.avif.*, 2 \.heic files in need of conv"):
        assert names(tmp_path) == ["a"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    save(tmp_path / "x/a.png", colors())
    (tmp_path / "x").chmod(0)
    with pytest.raises(DatasetError, match="/x cannot be read"):
        names(tmp_path)


def test_a_folder_that_fails_while_it_is_read_is_an_error(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DatasetError, match="cannot be read .Permission denied."):
        names(tmp_path)


def test_labels_are_found_image_by_image(tmp_path):
    """Half of the towns with the official label ids, half with train ids made from them."""
    cityscapes_tree(tmp_path, 4)
    for number in (1, 3):
        stem = tmp_path / f"cityscapes/gtFine/train/town/town_{number:06d}_000019_gtFine_label"
        os.remove(f"{stem}TrainIds.png")
        save(stem.with_name(stem.name + "Ids.png"), np.full((HEIGHT, WIDTH), 26, np.uint8))
    found = load_dataset("cityscapes/train", root=tmp_path)
    assert [s.encoding for s in found] == ["train-ids", "label-ids"] * 2
    np.testing.assert_array_equal(found[0].label(), labels())
    assert (found[1].label() == 13).all()


# masks


def with_mask(tmp_path, values):
    save(tmp_path / "set/a.png", colors())
    save(tmp_path / "set/a_mask.png", values)
    return load_dataset("masks/set", root=tmp_path)[0]


def test_255_in_a_mask_is_void(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:4], mask[30:] = 1, 255
    sample = with_mask(tmp_path, mask)
    np.testing.assert_array_equal(sample.invalid(), mask == 1)
    np.testing.assert_array_equal(sample.void(), mask == 255)
    classes, confidence = np.zeros(mask.shape, np.uint8), np.full(mask.shape, 0.5)
    counts = BravoAccumulator().update(sample.label(), sample.invalid(), classes, confidence, sample.void())
    assert counts.invalid.sum() == 4 * WIDTH and (counts.correct + counts.wrong).sum() == 26 * WIDTH
    assert not counts.labelled


def test_a_mask_of_0_and_255_is_told(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[30:] = 255
    with pytest.warns(UserWarning, match="a_mask.png holds 0 and 255 only: 255 counts as void"):
        assert not with_mask(tmp_path, mask).invalid().any()


@pytest.mark.parametrize("value", [1, 2, 200])
def test_any_other_value_is_an_anomaly_without_a_word(tmp_path, value):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3, 4] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample = with_mask(tmp_path, mask)
        assert np.argwhere(sample.invalid()).tolist() == [[3, 4]] and not sample.void().any()


def test_a_mask_of_one_bit_has_no_void(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3, 4] = True
    sample = with_mask(tmp_path, mask)
    assert np.argwhere(sample.invalid()).tolist() == [[3, 4]] and not sample.void().any()


@pytest.mark.parametrize(
    "value, words", [((255, 0, 0), "holds colours"), (65535, "holds the value 65535"), (300, "holds the value 300")]
)
def test_a_mask_whose_values_could_mean_anything_is_refused(tmp_path, value, words):
    """Red would be taken for void, since its largest channel is 255."""
    channels = (3,) if isinstance(value, tuple) else ()
    mask = np.zeros((HEIGHT, WIDTH, *channels), np.uint8 if channels else np.uint16)
    mask[:4] = value
    sample = with_mask(tmp_path, mask)
    for read in (sample.invalid, sample.void):
        with pytest.raises(DatasetError, match=rf"The mask .*a_mask\.png {words}"):
            read()


def test_in_the_benchmark_anything_but_0_is_invalid(tmp_path):
    bravo_tree(tmp_path, "synobjs")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[0], mask[1] = 1, 255
    for path in tmp_path.rglob("*_mask.png"):
        save(path, mask)
    sample = load_dataset("bravo/synobjs", root=tmp_path)[0]
    assert sample.invalid().sum() == 2 * WIDTH and not sample.void().any()


def test_void_counts_nowhere():
    rng = np.random.default_rng(0)
    gt, classes = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    confidence, void = rng.random((20, 30)), rng.random((20, 30)) < 0.3
    marked = np.where(void, 255, gt).astype(np.uint8)
    one = BravoAccumulator().update(gt, None, classes, confidence, void=void)
    other = BravoAccumulator().update(marked, None, classes, confidence)
    np.testing.assert_array_equal(one.confusion, other.confusion)
    np.testing.assert_array_equal(one.wrong, other.wrong)
    assert one.confusion.sum() == (~void).sum()


# lists


@pytest.mark.parametrize(
    "content",
    [
        b"a1\nb2\n",
        b"\xef\xbb\xbfa1\r\nb2\r\n",
        "a1\r\nb2".encode("utf-16"),
        "a1\nb2\n".encode("utf-16-be").join([b"\xfe\xff", b""]),
        b"CamVid\\train\\a1.png CamVid\\trainannot\\a1.png\r\nCamVid\\train\\b2.PNG x\r\n",
        b"/my data/train/a1.png /my data/annot/a1.png\n\n/my data/train/b2.jpeg\t/my data/annot/b2.png\n",
    ],
)
def test_lists_of_every_origin_name_the_same_images(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    assert [entry.rsplit("/", 1)[-1].split(".")[0] for entry in read_list(tmp_path / "list.txt")] == ["a1", "b2"]


def test_a_list_in_another_encoding_is_named(tmp_path):
    for content in ("straße\n".encode("latin-1"), "a1\n".encode("utf-16-le"), "a1\n".encode("utf-32"), b"\xff\xfea"):
        (tmp_path / "list.txt").write_bytes(content)
        with pytest.raises(DatasetError, match=r"list\.txt is not text in UTF-8"):
            read_list(tmp_path / "list.txt")


def test_only_the_ending_of_an_image_is_cut_from_a_name(tmp_path):
    (tmp_path / "list.txt").write_text("a.b\na.b.png\nx/a.JPG y\n")
    assert read_list(tmp_path / "list.txt") == ["a.b", "a.b", "x/a"]


def test_a_list_that_cannot_be_read_is_named(tmp_path):
    save(tmp_path / "camvid/val/a.png", colors())
    (tmp_path / "camvid/val.txt").mkdir()
    with pytest.raises(DatasetError, match=r"The list .*val\.txt cannot be read"):
        load_dataset("camvid/val", root=tmp_path)


# places to write


def test_a_folder_for_downloads_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IOOD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(FileError, match="IOOD_CACHE_DIR"):
        paths.cache_dir()
    monkeypatch.setenv("IOOD_CACHE_DIR", "~/here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache_dir() == tmp_path / "here"
    monkeypatch.delenv("IOOD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert paths.cache_dir() in (tmp_path / "caches" / "iood", tmp_path / "Library" / "Caches" / "iood")  # Linux, macOS
