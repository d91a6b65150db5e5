"""Submission files: round trips, the official bytes, and everything that must be refused."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import zstandard
from conftest import GOLDEN
from PIL import Image

from iood_helpers.bravo import codec, submission
from iood_helpers.bravo.codec import decode_prediction, decode_samples, encode_prediction, encode_samples
from iood_helpers.bravo.ground_truth import pack_ground_truth
from iood_helpers.bravo.maps import read_map
from iood_helpers.bravo.metrics import bravo_metrics
from iood_helpers.bravo.sampling import sample_pixels
from iood_helpers.bravo.submission import (
    check_submission,
    encode_submission,
    evaluate_submission,
    sample_ground_truth,
)
from iood_helpers.datasets import BRAVO_LAYOUT, load_dataset
from iood_helpers.errors import DatasetError, SubmissionError
from iood_helpers.io import data_dir

SIZE = (40, 60)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def members(path):
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Two random images of every subset: ``gt.tar``, ``samples.tar``, ``tree/``, and the arrays."""
    folder, rng = tmp_path_factory.mktemp("bravo"), np.random.default_rng(0)
    files, arrays = {}, {}
    for subset, layout in BRAVO_LAYOUT.items():
        for i in range(2):
            base = f"{layout.folder}/{layout.part + '/test' if layout.part else 'place'}/{i}"
            gt = rng.choice([0, 1, 8, 255], SIZE, p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8)
            mask = (rng.random(SIZE) < 0.1).astype(np.uint8)
            classes = np.where(rng.random(SIZE) < 0.8, np.where(gt == 255, 0, gt), 13).astype(np.uint8)
            levels = rng.integers(0, 65536, SIZE).astype(np.uint16)
            files |= {base + layout.label: png(gt), base + layout.mask: png(mask)}
            for kind, array in {"pred": classes, "conf": levels}.items():
                path = folder / "tree" / f"{base}{layout.image}_{kind}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(array))
            arrays.setdefault(subset, []).append((gt, mask, classes, levels))
    write_tar(folder / "gt.tar", files)
    sample_ground_truth(folder / "gt.tar", folder / "samples.tar", progress=False)
    encode_submission(folder / "tree", folder / "samples.tar", folder / "submission.tar", progress=False)
    return folder, arrays


def evaluate(folder, out="submission.tar", gt="gt.tar", samples="samples.tar"):
    return evaluate_submission(folder / gt, folder / out, folder / samples, progress=False)


def test_the_archive_is_judged_like_the_arrays(benchmark):
    folder, arrays = benchmark
    got, wanted = evaluate(folder), bravo_metrics(arrays)
    assert set(got) == set(wanted) and "bravo_index" in got
    for key in wanted:
        np.testing.assert_allclose(got[key], wanted[key], atol=1e-12, err_msg=key)


def test_ground_truth_is_packed_for_the_evaluation(tmp_path):
    splits = ["mini/synobjs", "mini/ACDCfog"]
    found = members(pack_ground_truth(splits, tmp_path / "gt.tar", limit=2))
    assert len(found) == 8
    for split in splits:
        for sample in load_dataset(split, limit=2):
            layout = BRAVO_LAYOUT[split.split("/")[1]]
            assert found[f"{layout.folder}/{sample.name}{layout.label}"] == sample.label_path.read_bytes()
            assert found[f"{layout.folder}/{sample.name}{layout.mask}"] == sample.invalid_path.read_bytes()
    sampled = members(sample_ground_truth(tmp_path / "gt.tar", tmp_path / "samples.tar", progress=False))
    assert len(sampled) == 4  # one file of sampled pixels for each image


def test_ground_truth_without_labels_is_refused(tmp_path):
    folder = tmp_path / "data" / "bravo" / "bravo_ACDC"
    shutil.copytree(data_dir() / "mini" / "bravo" / "bravo_ACDC", folder)
    for path in folder.rglob("*label*.png"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"has no file \*_gt_labelTrainIds.png beside it; leave bravo/ACDCfog out"):
        pack_ground_truth(["bravo/ACDCfog"], tmp_path / "gt.tar", root=tmp_path / "data")
    assert not (tmp_path / "gt.tar").exists()


def test_the_same_tree_gives_the_same_bytes(benchmark, tmp_path):
    folder, _ = benchmark
    again = encode_submission(folder / "tree", folder / "samples.tar", tmp_path / "again.tar", progress=False)
    assert again.read_bytes() == (folder / "submission.tar").read_bytes()


def test_contents_and_numbers_are_those_of_the_official_toolkit(tmp_path):
    golden = GOLDEN / "bravo"
    for name, content in members(golden / "tree.tar").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    samples = sample_ground_truth(golden / "gt.tar", tmp_path / "samples.tar", progress=False)
    ours, theirs = members(samples), members(golden / "samples.tar")
    assert set(ours) == set(theirs)  # the files differ by our checksums, what they say does not
    for name, content in theirs.items():
        np.testing.assert_array_equal(decode_samples(ours[name]), decode_samples(content), err_msg=name)
    out = encode_submission(tmp_path / "tree", golden / "samples.tar", tmp_path / "out.tar", progress=False)
    ours, theirs = members(out), members(golden / "submission.tar")
    assert set(ours) == set(theirs)
    for name, content in theirs.items():
        for one, other in zip(decode_prediction(ours[name]), decode_prediction(content), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    assert check_submission(tmp_path / "tree", golden / "samples.tar", golden / "submission.tar", progress=False) > 9
    got = evaluate(golden)
    wanted = json.loads((golden / "results.json").read_text())
    assert set(got) == set(wanted)
    for key in wanted:
        np.testing.assert_allclose(got[key], wanted[key], atol=1e-9, err_msg=key)


@pytest.mark.parametrize(
    "indices", [[0], [5, 6, 261, 262], [0, 255, 511, 767 + 65536], list(range(1000)), [1 << 23, (1 << 24) - 1]]
)
def test_samples_survive_the_round_trip(indices):
    np.testing.assert_array_equal(decode_samples(encode_samples(np.array(indices))), indices)


def test_sample_bytes_are_those_of_the_format():
    raw = zstandard.ZstdDecompressor().decompress(encode_samples(np.array([7, 8, 263, 519])))
    assert raw == bytes([4, 0, 0, 7, 0, 0, 1, 255, 0, 0, 1, 0])


def packed(raw):
    return zstandard.ZstdCompressor().compress(raw)


@pytest.mark.parametrize(
    "content, words",
    [
        (packed(b"\x02\x00\x00\x07\x00\x00"), "other samples than it announces"),
        (packed(b"\x02\x00\x00\x07\x00\x00\x00\x01"), "other samples than it announces"),
        (packed(b"\x02\x00\x00\x07\x00\x00\x00\x00\x00\x00"), "other samples than it announces"),
        (packed(b"\x00\x00\x00\x07\x00\x00"), "other samples"),
        (packed(b"\x01"), "other samples"),
        (b"nothing", "damaged"),
    ],
)
def test_wrong_samples_are_refused(content, words):
    with pytest.raises(SubmissionError, match=f"file.bin.*{words}"):
        decode_samples(content, "file.bin")


def test_samples_that_cannot_be_written():
    for indices in ([], [3, 3], [4, 2], [-1, 2], [1 << 24], [0.5], [[1]], 3, ["a"]):
        with pytest.raises(SubmissionError, match="rising indices"):
            encode_samples(np.array(indices))


def test_zeros_within_long_steps_announce_nothing():
    """Differences whose three bytes hold zeros, beside ones of a single byte, in any order."""
    steps = np.random.default_rng(0).choice([1, 255, 256, 257, 65536, 65537, 131072], 200)
    indices = np.cumsum(steps)
    np.testing.assert_array_equal(decode_samples(encode_samples(indices)), indices)


@pytest.fixture
def image():
    rng = np.random.default_rng(1)
    classes, levels = rng.integers(0, 19, SIZE).astype(np.uint8), rng.integers(0, 65536, SIZE).astype(np.uint16)
    return classes, levels, sample_pixels(classes)[::3]


def test_predictions_survive_the_round_trip(image):
    classes, levels, indices = image
    got_classes, got_levels = decode_prediction(encode_prediction(*image))
    np.testing.assert_array_equal(got_classes, classes)
    np.testing.assert_array_equal(got_levels, levels.ravel()[indices])


def test_wrong_arrays_are_refused(image):
    classes, levels, indices = image
    for arguments, words in [
        ((np.full(SIZE, 19, np.uint8), levels, indices), r"ids \[19\]"),
        ((classes.astype(np.int64) - 1, levels, indices), r"ids \[-1\]"),
        ((classes / 2, levels, indices), "type float64"),
        ((classes, (levels // 256).astype(np.uint8), indices), "type uint8"),
        ((classes, np.full(SIZE, np.nan), indices), "without NaN"),
        ((classes, np.full(SIZE, 1.2), indices), r"1\.2; pass floats 0\.\.1"),
        ((classes, levels[:-1], indices), "maps of one size"),
        ((classes[None], levels[None], indices), "maps of one size"),
        ((classes[:0], levels[:0], indices), "maps of one size"),
        ((classes, levels, np.array([classes.size])), "from 0 to 2399"),
        ((classes, levels, np.array([-1, 5])), "rising indices"),
        ((classes, levels, np.array([9, 5])), "rising indices"),
        ((classes, levels, np.array([0.5])), "rising indices"),
    ]:
        with pytest.raises(SubmissionError, match=words):
            encode_prediction(*arguments)


def test_other_types_give_the_same_file(image):
    classes, levels, indices = image
    same = encode_prediction(classes.astype(np.int64), levels / 65535, indices.astype(np.uint32))
    for one, other in zip(decode_prediction(same), decode_prediction(encode_prediction(*image)), strict=True):
        np.testing.assert_array_equal(one, other)


def repaired(content):
    """With a checksum that fits: only what lies behind the checksum can find the fault."""
    import zlib

    return content[:-4] + zlib.crc32(content[:-4]).to_bytes(4, "little")


def test_damaged_predictions_are_refused(image):
    good = encode_prediction(*image)
    flipped = bytearray(good)
    flipped[40] ^= 1
    header = list(codec.HEADER.unpack(good[: codec.HEADER.size]))

    def with_header(position, value):
        changed = [*header[:position], value, *header[position + 1 :]]
        return repaired(codec.HEADER.pack(*changed) + good[codec.HEADER.size :])

    body = packed(np.full(SIZE, 19, np.uint8).tobytes() + good[-header[6] :])
    for content, words in [
        (bytes(flipped), "checksum is wrong"),
        (good[:-10], "checksum is wrong"),
        (b"BV2", "not an encoded prediction"),
        (b"XX23" + good[4:], "not an encoded prediction"),
        (with_header(1, 3), "has version 3"),
        (with_header(2, header[2] + 1), "lengths that do not fit"),
        (with_header(4, header[4] + 1), "lengths that do not fit"),
        (repaired(good[: codec.HEADER.size] + packed(b"short") + good[-4:]), "holds 5 bytes"),
        (repaired(good[: codec.HEADER.size] + packed(bytes(10**6)) + good[-4:]), "more than it announces"),
        (repaired(good[: codec.HEADER.size] + body + good[-4:]), "holds class 19|announces"),
    ]:
        with pytest.raises(SubmissionError, match=f"file.bin.*({words})"):
            decode_prediction(content, "file.bin")


@pytest.fixture
def tree(benchmark, tmp_path):
    """A copy of the tree to spoil."""
    shutil.copytree(benchmark[0] / "tree", tmp_path / "tree")
    return tmp_path / "tree"


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda p: p.write_bytes(png(np.full(SIZE, 19, np.uint8))), r"ids \[19\]"),
        (lambda p: p.write_bytes(png(np.zeros((20, 60), np.uint8))), "maps of one size"),
        (lambda p: p.write_bytes(png(np.zeros(SIZE, np.uint16))), "needs 8 bits"),
        (lambda p: p.write_bytes(png(np.zeros((*SIZE, 3), np.uint8))), "one channel"),
        (lambda p: p.write_bytes(p.read_bytes()[:60]), "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_and_nothing_is_written(benchmark, tree, spoil, words):
    path = tree / "bravo_synobjs/place/1_pred.png"
    spoil(path)
    with pytest.raises(SubmissionError, match=f"1_pred.png.*{words}"):
        encode_submission(tree, benchmark[0] / "samples.tar", tree.parent / "out.tar", progress=False)
    assert sorted(p.name for p in tree.parent.iterdir()) == ["tree"]


def test_all_missing_images_are_named(benchmark, tree):
    for name in ("bravo_SMIYC/place/0_conf.png", "bravo_ACDC/fog/test/1_rgb_anon_pred.png"):
        (tree / name).unlink()
    with pytest.raises(SubmissionError, match=r"lacks 2 files.*1_rgb_anon_pred\.png.*SMIYC/place/0_conf\.png"):
        encode_submission(tree, benchmark[0] / "samples.tar", tree.parent / "out.tar", progress=False)


def test_a_submission_with_missing_or_smaller_images_is_refused(benchmark, tmp_path):
    folder, _ = benchmark
    sent = members(folder / "submission.tar")
    names = sorted(sent)
    fewer = write_tar(tmp_path / "fewer.tar", {name: sent[name] for name in names[2:]})
    with pytest.raises(SubmissionError, match=f"lacks 2 images: {names[0]}, {names[1]}"):
        evaluate(folder, fewer)
    small = encode_prediction(np.zeros((20, 60), np.uint8), np.zeros((20, 60), np.uint16), np.arange(1200))
    other = write_tar(tmp_path / "small.tar", {**sent, names[3]: small})
    with pytest.raises(SubmissionError, match=f"{names[3]} has .20, 60."):
        evaluate(folder, other)
    samples = members(folder / "samples.tar")
    first = sorted(samples)[0]
    shifted = write_tar(tmp_path / "s.tar", {**samples, first: encode_samples(decode_samples(samples[first]) + 1)})
    with pytest.raises(SubmissionError, match="do not belong to this ground truth"):
        evaluate(folder, samples=shifted)


def test_predictions_are_checked_before_anything_is_written(tmp_path):
    classes, right = np.zeros((4, 5), np.int64), np.full((4, 5), 0.5)
    wrong = [(classes, right * value) for value in (194.0, -0.2, 3.0, np.nan, np.inf)]
    wrong += [(classes + 19, right), (classes - 1, right), (classes + 0.5, right), (classes[:3], right)]
    wrong += [(classes, np.full((4, 5), 7, np.uint8)), (classes[None], right[None])]
    for one, confidence in wrong:
        with pytest.raises(SubmissionError, match="bravo/synobjs cow/1"):
            submission.write_prediction(tmp_path, "bravo/synobjs", "cow/1", one, confidence)
    assert not list(tmp_path.iterdir())
    ids = np.arange(20).reshape(4, 5) % 19
    for kind in (np.int64, np.uint8, np.int16):
        for confidence in (np.float32(1 / 65535) * np.arange(20).reshape(4, 5), np.arange(20).reshape(4, 5)):
            submission.write_prediction(tmp_path, "bravo/synobjs", "cow/1", ids.astype(kind), confidence)
            got, levels = submission.read_prediction(tmp_path, "bravo/synobjs", "cow/1")
            np.testing.assert_array_equal(got, ids)
            np.testing.assert_array_equal(levels, np.arange(20).reshape(4, 5))


def test_a_prediction_is_a_png_whatever_it_is_called(benchmark, tree):
    path = tree / "bravo_synobjs/place/1_pred.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EOF\n")
    with pytest.raises(SubmissionError, match="1_pred.png cannot be read"):
        encode_submission(tree, benchmark[0] / "samples.tar", tree.parent / "out.tar", progress=False)


def test_a_prediction_with_a_flipped_bit_is_read_as_it_was_or_refused(tmp_path):
    classes = np.random.default_rng(0).integers(0, 4, (40, 50)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    submission.write_prediction(tmp_path, "ACDCfog", "a", classes, np.full(classes.shape, 0.5))
    path, _ = submission.prediction_paths(tmp_path, "ACDCfog", "a")
    content, refused = path.read_bytes(), 0
    for place in range(41, len(content) - 16, 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            assert np.array_equal(submission.read_prediction(tmp_path, "ACDCfog", "a")[0], classes), place
        except SubmissionError as error:
            refused += 1
            assert path.name in str(error)
    assert refused > 100


def test_a_huge_image_is_refused_by_its_header(tmp_path):
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9_000, 9_000, 8, 0, 0, 0, 0))
    with pytest.raises(SubmissionError, match="x.png has 9000 x 9000 pixels"):
        read_map(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "x.png")


def test_the_check_finds_another_pixel(benchmark, tree):
    folder, _ = benchmark
    files = folder / "samples.tar", folder / "submission.tar"
    assert check_submission(tree, *files, progress=False) == 18
    path = tree / "bravo_synobjs/place/1_pred.png"
    classes = np.asarray(Image.open(path)).copy()
    classes[3, 7] = (classes[3, 7] + 1) % 19
    path.write_bytes(png(classes))
    with pytest.raises(SubmissionError, match="synobjs/place/1_encoded.bin in .*differs from .*1_pred.png"):
        check_submission(tree, *files, progress=False)
    with pytest.raises(SubmissionError, match="few.tar lacks images.*bravo_synobjs/place/1_encoded.bin"):
        check_submission(tree, files[0], write_tar(tree.parent / "few.tar", {"x": b""}), progress=False)
    more = write_tar(tree.parent / "more.tar", members(files[1]) | {"bravo_synobjs/place/7_encoded.bin": b"x"})
    with pytest.raises(SubmissionError, match="more.tar .*holds others.*: bravo_synobjs/place/7_encoded.bin"):
        check_submission(tree, files[0], more, progress=False)


def test_the_check_of_a_tree_or_samples_that_do_not_fit(benchmark, tree):
    folder, _ = benchmark
    outside = members(folder / "samples.tar") | {"bravo_synobjs/place/1_samples.bin": encode_samples([0, 40 * 60])}
    other = write_tar(tree.parent / "s.tar", outside)
    with pytest.raises(SubmissionError, match="place/1_encoded.bin .*differs"):
        check_submission(tree, other, folder / "submission.tar", progress=False)
    (tree / "bravo_synobjs/place/1_conf.png").unlink()
    with pytest.raises(SubmissionError, match="lacks 1 files.*place/1_conf.png"):
        check_submission(tree, folder / "samples.tar", folder / "submission.tar", progress=False)


@pytest.mark.parametrize(
    "label, words", [(np.full(SIZE, 77, np.uint8), r"ids \[77\]"), (np.zeros(SIZE, bool), "type bool")]
)
def test_labels_that_are_no_train_ids_are_named(benchmark, tmp_path, label, words):
    folder, _ = benchmark
    truth = members(folder / "gt.tar") | {"bravo_synobjs/place/1_gt.png": png(label)}
    gt = write_tar(tmp_path / "gt.tar", truth)
    for call in (
        lambda: evaluate(folder, gt=gt),
        lambda: sample_ground_truth(gt, tmp_path / "samples.tar", progress=False),
    ):
        with pytest.raises(SubmissionError, match=f"bravo_synobjs/place/1_gt.png of .*gt.tar.*{words}"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["gt.tar"]


def test_an_image_of_void_alone_has_no_samples(benchmark, tmp_path):
    truth = members(benchmark[0] / "gt.tar") | {"bravo_synobjs/place/1_gt.png": png(np.full(SIZE, 255, np.uint8))}
    with pytest.raises(SubmissionError, match="bravo_synobjs/place/1 is void everywhere"):
        sample_ground_truth(write_tar(tmp_path / "gt.tar", truth), tmp_path / "samples.tar", progress=False)


@pytest.mark.parametrize("name", ["../1", "a/../../../1", "/tmp/1"])
def test_predictions_stay_in_their_tree(tmp_path, name):
    for call in (
        lambda: submission.write_prediction(tmp_path / "t", "bravo/synobjs", name, np.zeros(SIZE, int), np.ones(SIZE)),
        lambda: submission.read_prediction(tmp_path / "t", "bravo/synobjs", name),
    ):
        with pytest.raises(SubmissionError, match="points outside the tree"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_tree_that_is_no_folder_is_told(benchmark, tmp_path):
    samples = benchmark[0] / "samples.tar"
    with pytest.raises(SubmissionError, match="is a file, where a folder of predictions is wanted"):
        encode_submission(samples, samples, tmp_path / "o.tar", progress=False)
    with pytest.raises(SubmissionError, match="nothing does not exist"):
        encode_submission(tmp_path / "nothing", samples, tmp_path / "o.tar", progress=False)


def test_the_command_line(benchmark, tmp_path, capsys):
    folder, _ = benchmark
    gt, samples, out = folder / "gt.tar", tmp_path / "samples.tar", tmp_path / "out.tar"
    assert submission.main(["sample", str(gt), str(samples)]) == 0
    assert submission.main(["encode", str(folder / "tree"), str(samples), str(out)]) == 0
    assert submission.main(["evaluate", str(gt), str(out), str(samples), "--json", str(tmp_path / "r.json")]) == 0
    assert "bravo_index" in capsys.readouterr().out and "bravo_index" in json.loads((tmp_path / "r.json").read_text())
    assert submission.main(["inspect", str(out)]) == 0
    assert "40 x 60" in capsys.readouterr().out
    assert submission.main(["inspect", str(tmp_path / "none.tar")]) == 1
    assert "SubmissionError: The archive" in capsys.readouterr().err
    (tmp_path / "zip.tar").write_bytes(b"PK not a tar" * 100)
    assert submission.main(["inspect", str(tmp_path / "zip.tar")]) == 1
