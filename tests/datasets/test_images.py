"""Pictures of every kind: as RGB, as ids, as masks, or refused in a sentence."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from test_datasets import HEIGHT, WIDTH, colors, labels, save

from iood_helpers.datasets import images
from iood_helpers.datasets.images import image_size, read_ids, read_image, read_mask
from iood_helpers.errors import DatasetError

# pictures of any kind


def converted(mode: str) -> Image.Image:
    picture = Image.fromarray(colors())
    if mode == "RGBA":
        picture.putalpha(7)
        return picture
    if mode == "LA":
        return Image.merge("LA", [picture.convert("L"), Image.new("L", picture.size, 7)])
    return picture.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_modes_give_rgb(tmp_path, mode):
    picture = converted(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    picture.save(path)
    expected = {"RGBA": colors(), "LA": np.repeat(np.array(picture)[..., :1], 3, axis=-1)}.get(mode)
    if expected is None:
        expected = np.array(picture.convert("RGB"))
    for form in (path, str(path), picture):
        read = read_image(form)
        assert read.dtype == np.uint8 and read.shape == (HEIGHT, WIDTH, 3)
        np.testing.assert_array_equal(read, expected)


def test_sixteen_bit_gray_is_scaled(tmp_path):
    values = np.linspace(0, 65535, HEIGHT * WIDTH).round().astype(np.uint16).reshape(HEIGHT, WIDTH)
    path = save(tmp_path / "x.png", values)
    expected = np.round(values / 257).astype(np.uint8)
    for form in (path, values, Image.fromarray(values.astype(np.int32))):
        np.testing.assert_array_equal(read_image(form), np.repeat(expected[..., None], 3, axis=-1))
    with pytest.raises(DatasetError, match=r"0\.\.65535"):
        read_image(Image.fromarray(values.astype(np.int32) * 2))
    with pytest.raises(DatasetError, match="floating point"):
        read_image(Image.fromarray(values.astype(np.float32)))


def test_alpha_of_a_mask_does_not_count(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    mask[..., 3] = 255
    mask[2, 3, 1] = 9
    assert np.argwhere(read_mask(save(tmp_path / "x.png", mask))).tolist() == [[2, 3]]


def test_palette_with_transparency(tmp_path, recwarn):
    picture = Image.fromarray(colors()).convert("P")
    picture.save(tmp_path / "x.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.array(picture.convert("RGB")))
    assert not recwarn.list


def test_arrays(tmp_path):
    image = colors()
    assert read_image(image) is image
    gray = image[..., 0]
    for form in (gray, gray[..., None]):
        np.testing.assert_array_equal(read_image(form), np.repeat(gray[..., None], 3, axis=-1))
    np.testing.assert_array_equal(read_image(np.dstack([image, gray])), image)
    assert read_image(image[:, ::-1]).flags.c_contiguous
    assert set(np.unique(read_image(gray > 100))) == {0, 255}
    for wrong, words in (
        (image / 255.0, "float64"),
        (image.transpose(2, 0, 1), "shape"),
        (image[None], "shape"),
        (image.astype(np.int64), "int64"),
    ):
        with pytest.raises(DatasetError, match=words):
            read_image(wrong)
    with pytest.raises(DatasetError, match="type list"):
        read_image(image.tolist())


def test_exif_orientation_is_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colors()).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), colors())


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1)])
def test_small_images_are_refused(tmp_path, size):
    image = np.zeros((*size, 3), dtype=np.uint8)
    with pytest.raises(DatasetError, match=f"{size[0]}x{size[1]}.*at least 32"):
        read_image(image)
    with pytest.raises(DatasetError, match=r"x\.png has"):
        read_image(save(tmp_path / "x.png", image))
    assert read_image(np.zeros((32, 32, 3), dtype=np.uint8)).shape == (32, 32, 3)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp"])
def test_every_truncation_is_an_error_or_the_image(tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    Image.fromarray(colors()).save(whole)
    content = whole.read_bytes()
    part = tmp_path / f"part{suffix}"
    failed = 0
    for length in range(0, len(content), max(1, len(content) // 60)):
        part.write_bytes(content[:length])
        try:
            # a file that lost only its end marker still holds every pixel
            np.testing.assert_array_equal(read_image(part), read_image(whole))
        except DatasetError as error:
            assert str(part) in str(error)
            failed += 1
    assert failed > 50


def test_no_image_at_all(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(DatasetError, match="does not exist"):
        read_image(tmp_path)
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DatasetError, match=r"text\.png cannot be read"):
        read_image(tmp_path / "text.png")


def test_decompression_bomb(tmp_path, monkeypatch):
    path = save(tmp_path / "x.png", colors())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DatasetError, match=r"x\.png cannot be read .*raise PIL\.Image\.MAX_IMAGE_PIXELS"):
        read_image(path)


# files that lie about themselves


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(path, side):
    rows = zlib.compress(bytes(side * (side + 1)), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    huge_png(tmp_path / "x.png", 9000)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DatasetError, match=r"x\.png says it has 9000 x 9000 pixels.*IOOD_MAX_PIXELS"):
        read_image(tmp_path / "x.png")


def test_the_limit_can_be_set(tmp_path, monkeypatch):
    save(tmp_path / "x.png", colors())
    monkeypatch.setenv("IOOD_MAX_PIXELS", "1000")
    with pytest.raises(DatasetError, match="limit of 1000"):
        read_image(tmp_path / "x.png")
    monkeypatch.setenv("IOOD_MAX_PIXELS", "10000")
    assert read_image(tmp_path / "x.png").shape == (HEIGHT, WIDTH, 3)


def test_only_the_formats_meant_are_opened(tmp_path, monkeypatch):
    started = []
    sys.addaudithook(lambda event, args: started.append(event) if event == "subprocess.Popen" else None)
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n")
    with pytest.raises(DatasetError, match=r"x\.png cannot be read"):
        read_image(tmp_path / "x.png")
    assert not started
    assert set(images.FORMATS.values()) == {"PNG", "JPEG", "WEBP", "BMP", "TIFF"}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_several_pictures_in_one_file_are_refused(tmp_path, suffix):
    first, second = (Image.fromarray(colors(seed)) for seed in (0, 1))
    first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=[second])
    with pytest.raises(DatasetError, match=rf"x\.{suffix} holds several images"):
        read_image(tmp_path / f"x.{suffix}")


def test_a_limit_that_is_no_number_is_named(tmp_path, monkeypatch):
    save(tmp_path / "x.png", colors())
    for wrong in ("many", "1e9", "-5"):
        monkeypatch.setenv("IOOD_MAX_PIXELS", wrong)
        with pytest.raises(DatasetError, match=rf"IOOD_MAX_PIXELS is '{wrong}'; set it"):
            read_image(tmp_path / "x.png")


def tiff(path, *pictures, **tags):
    """Directories of a grey, uncompressed picture each, with further tags."""
    content = b"II*\0" + struct.pack("<I", 8)
    for number, side in enumerate(pictures, 1):
        entries = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: side, 279: side * side}
        entries |= {int(tag[1:]): value for tag, value in tags.items()}
        end = len(content) + 6 + 12 * len(entries)
        content += struct.pack("<H", len(entries))
        content += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
        content += struct.pack("<I", end if number < len(pictures) else 0)
    path.write_bytes(content + bytes(1 << 13))
    return path


def test_tiles_larger_than_the_limit_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    assert read_image(tiff(tmp_path / "x.tif", 64)).shape == (64, 64, 3)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DatasetError, match="says it has 40000 x 40000 pixels"):
        read_image(tiff(tmp_path / "x.tif", 64, t322=40_000, t323=40_000, t324=8, t325=4096, t259=5))


def test_the_pictures_of_a_tiff_are_not_counted_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.n_frames", property(lambda self: pytest.fail("counted")))
    with pytest.raises(DatasetError, match="several images"):
        image_size(tiff(tmp_path / "x.tif", *[64] * 3))


def test_preview_of_a_camera_does_not_count(tmp_path):
    """A file of a camera: a JPEG with a second, smaller one behind it (MPO)."""
    first, second = Image.fromarray(colors(0)), Image.fromarray(colors(1))
    first.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[second])
    alone = io.BytesIO()
    first.save(alone, "JPEG")
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg"), np.array(Image.open(alone)))


# ids that are not exact


@pytest.mark.parametrize("read", [read_ids, read_mask])
def test_ids_in_a_lossy_file_are_refused(tmp_path, read):
    Image.fromarray(labels()).save(tmp_path / "x.png", format="JPEG")
    with pytest.raises(DatasetError, match=r"x\.png is a JPEG.*store it as PNG"):
        read(tmp_path / "x.png")


def test_masks_are_true_where_the_value_is_not_zero(tmp_path):
    values = labels(3)
    for form in (values, values.astype(np.uint16) * 300, values > 0, np.repeat(values[..., None], 3, axis=-1)):
        mask = read_mask(save(tmp_path / "x.png", form))
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, values > 0)


def test_ids_of_one_bit_are_0_and_1(tmp_path):
    ids = read_ids(save(tmp_path / "x.png", labels(2) > 0))
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, labels(2))
