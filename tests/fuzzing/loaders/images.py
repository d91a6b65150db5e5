"""Pictures, label maps and masks: what Pillow reads, what it should not read, and sizes that nobody has.

A PNG has a checksum for each chunk, so what loads after a byte was damaged has to be what was saved, unless all
checksums were made right again. The other formats cannot know.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from iood_helpers.datasets.images import image_size, read_ids, read_image, read_mask

from ..cases import Case, demand
from ..mutators import NUMBERS, damaged, zeros_deflated

SIGNATURE = b"\x89PNG\r\n\x1a\n"
READERS = {"read_image": read_image, "read_ids": read_ids, "read_mask": read_mask, "image_size": image_size}


def prepare(folder: Path) -> dict:
    chance = np.random.default_rng(0)
    gray = chance.integers(0, 19, (36, 40)).astype(np.uint8)
    color = chance.integers(0, 256, (36, 40, 3)).astype(np.uint8)
    pictures = {
        "L": Image.fromarray(gray),
        "areas": Image.fromarray((gray // 5).repeat(4, 0).repeat(4, 1)),  # as label maps are: damage shows less
        "RGB": Image.fromarray(color),
        "P": Image.fromarray(color).quantize(16),
        "RGBA": Image.fromarray(np.dstack([color, gray])),
        "LA": Image.fromarray(np.dstack([gray, gray]), "LA"),
        "1": Image.fromarray(gray > 9),
        "I;16": Image.fromarray(gray.astype(np.uint16) * 257),
    }
    originals = {}
    for mode, kind, options in (
        *((mode, "PNG", {}) for mode in pictures),
        *(
            ("P", "PNG", {"transparency": 0}),
            ("RGB", "JPEG", {}),
            ("L", "JPEG", {}),
            ("RGB", "JPEG", {"progressive": True}),
        ),
        *(
            ("RGB", "WEBP", {"lossless": True}),
            ("RGB", "WEBP", {}),
            ("RGB", "BMP", {}),
            ("P", "BMP", {}),
            ("1", "BMP", {}),
        ),
        *(("RGB", "TIFF", {}), ("I;16", "TIFF", {}), ("RGB", "TIFF", {"compression": "tiff_lzw"})),
        *(("L", "TIFF", {"compression": "tiff_adobe_deflate"}), ("1", "TIFF", {"compression": "group4"})),
        *(("RGB", "TIFF", {"compression": "jpeg"}), ("RGB", "GIF", {}), ("RGB", "PPM", {}), ("RGB", "ICO", {})),
    ):
        buffer = io.BytesIO()
        pictures[mode].save(buffer, kind, **options)
        originals[f"{mode} {kind} {options or ''}".strip()] = buffer.getvalue()
    place = folder / "original.png"
    expected = {}
    for name, content in originals.items():
        place.write_bytes(content)
        for reader, read in READERS.items():
            try:
                expected[name, reader] = read(place)
            except Exception:  # label maps of colours and other things that are rightly refused
                continue
    return {"originals": originals, "expected": expected}


def make(material: dict, rng: Random, folder: Path) -> Case:
    originals = material["originals"]
    reader = rng.choice(("read_image", "read_image", "read_ids", "read_mask", "image_size"))
    kind = rng.choice(("bytes", "bytes", "bytes", "png", "png", "tiff", "jpeg", "foreign", "huge"))
    names = list(originals)
    name, expected = rng.choice(names), None
    suffix = {"JPEG": "jpg", "TIFF": "tif", "WEBP": "webp", "BMP": "bmp"}.get(name.split()[1], "png")
    if kind == "bytes":
        if rng.random() < 0.3:
            name, suffix = "areas PNG", "png"
        content, what = damaged(originals[name], rng, originals[rng.choice(names)])
        what = f"{what} of {name}"
        if " PNG" in name and "splice" not in what and not _checksums_fit(content):
            expected = material["expected"].get((name, reader), "a refusal")
    elif kind == "png":
        name = rng.choice([name for name in names if " PNG" in name])
        content, what = _chunks(originals[name], rng)
        what, suffix = f"{what} of {name}", "png"
    elif kind == "tiff":
        name = rng.choice([name for name in names if " TIFF" in name])
        content, what = _tags(originals[name], rng)
        what, suffix = f"{what} of {name}", rng.choice(("tif", "tiff", "png"))
    elif kind == "jpeg":
        content, what = _segments(originals[rng.choice([name for name in names if " JPEG" in name])], rng)
        suffix = "jpg"
    elif kind == "foreign":
        content, what = rng.choice(_FOREIGN)
        suffix = rng.choice(("png", "jpg", "tif", "webp"))
    else:
        content, what = rng.choice(_HUGE)(rng)
        suffix = rng.choice((suffix, "png"))
    path = folder / f"damaged.{suffix}"
    path.write_bytes(content)
    return Case(
        f"{reader} of {kind}: {what}",
        (path.name,),
        lambda: READERS[reader](path),
        lambda found: _check(found, reader, path, expected),
    )


def _check(found, reader: str, path: Path, expected) -> None:
    if reader == "image_size":
        demand(len(found) == 2 and all(isinstance(side, int) and side > 0 for side in found), f"size {found}")
        return  # a header can be right where the rest is damaged
    size = found.shape[:2]
    demand(size == tuple(image_size(path)), f"{size} pixels, but image_size says {image_size(path)}")
    if reader == "read_image":
        demand(found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3, f"{found.dtype} {found.shape}")
        demand(min(size) >= 32 and found.flags.c_contiguous, f"{size} pixels or not contiguous")
    else:
        kinds = (bool, np.uint8, np.uint16, np.int32) if reader == "read_mask" else (np.uint8,)
        demand(found.ndim == 2 and found.dtype in kinds, f"{found.dtype} {found.shape}")
    if isinstance(expected, np.ndarray):
        demand(np.array_equal(found, expected), "a damaged PNG gives other pixels")


def png_file(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of some chunks, with right checksums."""
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _split(content: bytes) -> list[list]:
    chunks, place = [], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append([content[place + 4 : place + 8], content[place + 8 : place + 8 + length]])
        place += 12 + length
    return chunks


def _checksums_fit(content: bytes) -> bool:
    """Whether a PNG is whole up to its IEND chunk: damage behind it, or none at all, cannot matter."""
    place = 8
    while content[:8] == SIGNATURE and place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        end = place + 8 + length
        if zlib.crc32(content[place + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return False
        if content[place + 4 : place + 8] == b"IEND":
            return True
        place = end + 4
    return False


def _header(width: int, height: int, depth: int = 8, color: int = 0, interlace: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width % 2**32, height % 2**32, depth % 256, color % 256, 0, 0, interlace)


def _chunks(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A PNG whose checksums fit and whose chunks do not make sense."""
    chunks = _split(content)
    at = rng.randrange(len(chunks))
    kind = chunks[at][0]
    action = rng.choice(("header", "header", "body", "remove", "twice", "order", "add", "add", "rename"))
    if action == "header":
        sides = (*NUMBERS, 31, 32, 36, 40, 41, 1000)
        width, height = rng.choice((40, rng.choice(sides))), rng.choice((36, rng.choice(sides)))
        chunks[0] = _header(
            width,
            height,
            rng.choice((1, 2, 4, 8, 8, 16, 3, 255)),
            rng.choice((0, 2, 3, 4, 6, 1, 9)),
            rng.choice((0, 0, 1, 7)),
        )
        action = f"header {struct.unpack('>IIBBBBB', chunks[0][1])}"
    elif action == "body":
        chunks[at][1], fault = damaged(chunks[at][1], rng)
        action = f"{fault} in {kind!r}"
    elif action == "remove":
        del chunks[at]
    elif action == "twice":
        chunks.insert(at, chunks[at])
    elif action == "order":
        rng.shuffle(chunks)
    elif action == "rename":
        chunks[at][0] = rng.choice((b"abcd", b"ABCD", b"\0\0\0\0", b"IDAT", b"PLTE", b"IEND"))
    else:
        megabytes = rng.choice((1, 100, 1000))
        kind, body = rng.choice(
            (
                (b"zTXt", b"a\0\0" + zeros_deflated(megabytes)),
                (b"iTXt", b"a\0\1\0\0\0" + zeros_deflated(megabytes)),
                (b"iCCP", b"a\0\0" + zeros_deflated(megabytes)),
                (b"iCCP", b"a\0\0" + zlib.compress(b"no profile")),
                (b"eXIf", b"MM\0*\0\0\0\x08" + rng.randbytes(60)),
                (b"PLTE", rng.randbytes(rng.choice((0, 3, 4, 768, 3000)))),
                (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 300)))),
                (b"gAMA", b"\0"),
                (b"pHYs", bytes(3)),
                (b"acTL", struct.pack(">II", 2**31, 0)),
                (b"fcTL", struct.pack(">IIIIIHHBB", 0, 2**31 - 1, 2**31 - 1, 0, 0, 0, 0, 0, 0)),
                (b"fdAT", b"\0\0\0\1x"),
                (b"sRGB", b""),
                (b"cHRM", b"abc"),
            )
        )
        copies = rng.choice((1, 1, 1, 300)) if len(body) < 2_000_000 else 1
        chunks[rng.randrange(1, len(chunks)) : 0] = [[kind, body]] * copies if len(body) < 20_000 else [[kind, body]]
        if not any(chunk[0] == kind for chunk in chunks):
            chunks.insert(1, [kind, body])
        action = f"{copies} x {kind!r} of {len(body)} bytes"
    return png_file(*map(tuple, chunks)), f"{action}, {kind!r}"


def _tags(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A TIFF with entries of its directory changed."""
    changed = bytearray(content)
    order = "<" if content[:2] == b"II" else ">"
    start = struct.unpack_from(f"{order}I", content, 4)[0]
    number = struct.unpack_from(f"{order}H", content, start)[0]
    place = start + 2 + 12 * rng.randrange(number)
    tag = struct.unpack_from(f"{order}H", content, place)[0]
    part = rng.choice(("tag", "type", "count", "value", "value", "value", "next"))
    value = rng.choice((*NUMBERS, rng.randrange(2**16), rng.randrange(len(content))))
    if part == "tag":
        struct.pack_into(
            f"{order}H",
            changed,
            place,
            rng.choice((256, 257, 258, 259, 262, 273, 277, 279, 322, 324, 330, 34665, value % 2**16)),
        )
    elif part == "type":
        struct.pack_into(f"{order}H", changed, place + 2, rng.choice((0, 1, 2, 3, 4, 5, 7, 12, 13, 16, 99)))
    elif part == "count":
        struct.pack_into(f"{order}I", changed, place + 4, value)
    elif part == "value":
        small = struct.unpack_from(f"{order}H", content, place + 2)[0] == 3 and rng.random() < 0.8
        struct.pack_into(f"{order}{'H' if small else 'I'}", changed, place + 8, value % 2**16 if small else value)
    elif start + 2 + 12 * number + 4 <= len(changed):
        struct.pack_into(f"{order}I", changed, start + 2 + 12 * number, rng.choice((start, 0, 8, value)))
    return bytes(changed), f"{part} of tag {tag}: {value}"


def _segments(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A JPEG with its sizes changed, tables taken away, or scans without end."""
    changed = bytearray(content)
    frame = next(
        place for place in range(len(content)) if content[place] == 0xFF and content[place + 1] in (0xC0, 0xC2)
    )
    action = rng.choice(("size", "size", "components", "scans", "segment", "comments"))
    if action == "size":
        height, width = rng.choice((0, 1, 31, 36, 9000, 65500, 65535)), rng.choice((0, 1, 40, 9000, 65535))
        struct.pack_into(">HH", changed, frame + 5, height, width)
        action = f"size {height} x {width}"
    elif action == "components":
        changed[frame + 9] = rng.choice((0, 1, 2, 3, 4, 5, 255))
        changed[frame + 11] = rng.choice((0x11, 0x22, 0x44, 0, 0xFF))
    elif action == "scans":
        scan = content.rfind(b"\xff\xda")
        changed = bytearray(content[:-2]) + content[scan:-2] * rng.choice((10, 5000)) + b"\xff\xd9"
        if rng.random() < 0.5:
            struct.pack_into(">HH", changed, frame + 5, 4000, 4000)
    elif action == "segment":
        struct.pack_into(">H", changed, frame + 2, rng.choice((0, 1, 2, 8, 65535)))
    else:
        changed[2:2] = (
            b"\xff"
            + bytes([rng.choice((0xE1, 0xE2, 0xED, 0xFE))])
            + b"\xff\xff"
            + rng.choice((b"Exif\0\0MM\0*", b"ICC_PROFILE\0\1\xff", b"a")).ljust(65533, b"\0")
        ) * rng.choice((1, 500))
    return bytes(changed), action


def _png_bomb(rng: Random) -> tuple[bytes, str]:
    side = rng.choice((8_000, 13_300, 20_000, 60_000))
    depth, color = rng.choice(((1, 0), (8, 0), (8, 2), (8, 3), (16, 2), (16, 0), (8, 6)))
    palette = ((b"PLTE", bytes(6)),) if color == 3 else ()
    megabytes = min(side * side * depth // 8 // 2**20 + 2, 1500)
    return (
        png_file(
            _header(side, side, depth, color, rng.choice((0, 0, 1))),
            *palette,
            (b"IDAT", zeros_deflated(megabytes)),
            (b"IEND", b""),
        ),
        f"a PNG of {side} x {side}, depth {depth}, color {color}",
    )


def _other_bomb(rng: Random) -> tuple[bytes, str]:
    side = rng.choice((9_000, 16_383, 30_000, 65_535))
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 9)
    strip = zeros_deflated(200)
    for tag, value in (
        (256, side),
        (257, side),
        (258, rng.choice((1, 8, 16, 32))),
        (259, 8),
        (262, 1),
        (273, 200),
        (277, 1),
        (278, side),
        (279, len(strip)),
    ):
        tiff += struct.pack("<HHII", tag, 4, 1, value)
    return rng.choice(
        (
            (tiff.ljust(200, b"\0") + strip, f"a TIFF of {side} x {side}"),
            (
                b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
                f"a BMP of {side} x {side}",
            ),
            (
                b"BM"
                + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, side, -(2**31), 1, 8, 1, 0, 0, 0, 0, 0)
                + bytes(2000),
                "a BMP of RLE",
            ),
            (
                b"GIF89a"
                + struct.pack("<HHBBB", side, side, 0x80, 0, 0)
                + bytes(6)
                + b","
                + struct.pack("<HHHHB", 0, 0, side, side, 0)
                + b"\2\2\x4c\1\0;",
                f"a GIF of {side} x {side}",
            ),
            (b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/" + b"\xff\xff\xff\x0f" + bytes(8), "a WebP of 16384 x 16384"),
            (b"P6\n%d %d\n255\n" % (side, side), f"a PPM of {side} x {side}"),
            (b"P6\n" + b"9" * 5000 + b" 1\n255\n", "a PPM of a size of 5000 digits"),
            (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "JPEG 2000"),
        )
    )


_HUGE = (_png_bomb, _other_bomb)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n(touch CANARY) system\nshowpage\n%%EOF\n"
_FOREIGN = (
    (EPS, "EPS"),
    (b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + bytes(20) + EPS, "EPS with a preview"),
    (b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF", "PDF"),
    (b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhHI", 0, 0, 40, 40, 72, 0) + bytes(40), "WMF"),
    (b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(80), "EMF"),
    (b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30000, 30000, 8, 3) + bytes(14), "PSD"),
    (
        b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(80) + b"END".ljust(2720),
        "FITS",
    ),
    (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(64), "AVIF"),
    (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
    (b"GRIB\0\0\0\1" + bytes(64), "GRIB"),
    (b"BUFR" + bytes(64), "BUFR"),
    (b"qoif" + struct.pack(">IIBB", 30000, 30000, 3, 0) + bytes(64), "QOI"),
    (b"DDS " + struct.pack("<IIIII", 124, 0x1007, 30000, 30000, 0) + bytes(108), "DDS"),
    (b"\0\0\2" + bytes(9) + struct.pack("<HHBB", 60000, 60000, 24, 0), "TGA"),
    (b"#define x_width 40\n#define x_height 40\nstatic char x_bits[] = {\n0x00", "XBM"),
    (b'/* XPM */\nstatic char *a[] = {"40 40 1 1", "a c #000000",', "XPM"),
    (b"icns" + struct.pack(">I", 2**31 - 1) + b"ic10" + struct.pack(">I", 2**31 - 1), "ICNS"),
    (b"\x0a\5\1\1\0\0\0\0\xff\xff\xff\xff" + bytes(116), "PCX"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "OLE"),
    (b"\1\xda\1\1\0\3\xff\xff\xff\xff\0\3" + bytes(500), "SGI"),
    (b"Image type: L\r\nImage size (x*y): 40*40\r\n\x1a".ljust(600, b"\0"), "IM"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "SVG"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    (b"", "nothing"),
    (bytes(4096), "zeros"),
    (SIGNATURE, "a signature"),
    (b"\xff\xd8\xff", "three bytes of JPEG"),
)
