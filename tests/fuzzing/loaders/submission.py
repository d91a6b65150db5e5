"""Submissions: the two binary files, the archives, the trees of predictions.

An encoded file has a checksum, a tar header has one, a PNG has some: archives with damaged bytes give what the intact
ones gave, or are refused. Samples have none; a wrong one is noticed where the ground truth is known.
"""

from __future__ import annotations

import io
import math
import struct
import tarfile
import zlib
from pathlib import Path
from random import Random

import numpy as np
import zstandard
from PIL import Image

from iood_helpers.bravo.codec import (
    HEADER,
    MAX_PIXELS,
    decode_prediction,
    decode_samples,
    encode_prediction,
    encode_samples,
)
from iood_helpers.bravo.sampling import sample_pixels
from iood_helpers.bravo.submission import (
    encode_submission,
    evaluate_submission,
    inspect_submission,
    prediction_paths,
    read_prediction,
    sample_ground_truth,
)

from ..cases import Case, demand
from ..mutators import NUMBERS, damaged
from .images import EPS, png_file

FOLDER = "bravo_ACDC/fog/test"
NAMES = ("a/1", "a/2", "b/3")
IMAGE, LABEL, MASK = "_rgb_anon", "_gt_labelTrainIds.png", "_gt_invIds.png"


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(files: dict[str, bytes], form: int = tarfile.USTAR_FORMAT, compression: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def prepare(folder: Path) -> dict:
    chance = np.random.default_rng(0)
    truth, samples, sent, tree = {}, {}, {}, {}
    for name in NAMES:
        label = chance.integers(0, 19, (3, 4)).repeat(3, 0).repeat(3, 1).astype(np.uint8)
        label[0, :5] = 255
        classes = np.where(chance.random((9, 12)) < 0.5, np.minimum(label, 18), 3).astype(np.uint8)
        levels = chance.integers(0, 65536, (9, 12)).astype(np.uint16)
        indices = sample_pixels(label)
        base = f"{FOLDER}/{name}"
        truth[base + LABEL], truth[base + MASK] = _png(label), _png((chance.random((9, 12)) < 0.2).astype(np.uint8))
        samples[f"{base}_samples.bin"] = encode_samples(indices)
        sent[f"{base}_encoded.bin"] = encode_prediction(classes, levels, indices)
        tree[f"{base}{IMAGE}_pred.png"], tree[f"{base}{IMAGE}_conf.png"] = _png(classes), _png(levels)
    material = {"truth": truth, "samples": samples, "sent": sent, "tree": tree}
    material |= {f"{name}.tar": tar_of(material[name]) for name in ("truth", "samples", "sent")}
    place = folder / "intact"
    _write(material, place)
    sample_pixels(np.zeros((400, 400), np.uint8), 100)  # what is compiled late, is now
    material["results"] = {name: entry(place) for name, entry in ENTRIES.items()}
    return material


def _write(material: dict, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("truth", "samples", "sent"):
        (folder / f"{name}.tar").write_bytes(material[f"{name}.tar"])
    for name, content in material["tree"].items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


ENTRIES = {
    "inspect": lambda f: inspect_submission(f / "sent.tar"),
    "evaluate": lambda f: evaluate_submission(f / "truth.tar", f / "sent.tar", f / "samples.tar", progress=False),
    "sample": lambda f: sample_ground_truth(f / "truth.tar", f / "out.tar", progress=False).read_bytes(),
    "encode": lambda f: encode_submission(f / "tree", f / "samples.tar", f / "out.tar", progress=False).read_bytes(),
}
_ARCHIVES = {
    "inspect": ("sent",),
    "evaluate": ("truth", "sent", "samples"),
    "sample": ("truth",),
    "encode": ("samples",),
}


def make(material: dict, rng: Random, folder: Path) -> Case:
    kind = rng.choice(
        (
            "bytes",
            "bytes",
            "member",
            "blocks",
            "headers",
            "headers",
            "samples",
            "samples",
            "encoded",
            "encoded",
            "tree",
            "pair",
        )
    )
    if kind == "samples":
        return _samples(material, rng)
    if kind == "encoded":
        return _encoded(material, rng)
    if kind == "pair":
        return _pair(material, rng, folder)
    _write(material, folder)
    entry = "encode" if kind == "tree" else rng.choice(list(ENTRIES))
    exact = None
    if kind == "tree":
        path = folder / "tree" / rng.choice(list(material["tree"]))
        content, what = _picture(path.read_bytes(), rng)
        path.write_bytes(content)
        names = (path.name, path.stem.replace("_pred", "").replace("_conf", "").removesuffix(IMAGE))
    else:
        which = rng.choice(_ARCHIVES[entry])
        path = folder / f"{which}.tar"
        if kind == "bytes":
            content, what = damaged(path.read_bytes(), rng, material["sent.tar"])
            # samples have no checksum: only where the ground truth is at hand can they be judged
            exact = material["results"][entry] if which != "samples" or entry == "evaluate" else None
            # A header's checksum is a sum, whatever the order; and an archive without some of its blocks, or with
            # zeros to its end, can be an intact one of fewer files.
            if any(fault in what for fault in ("exchange", "drop", "blank")):
                exact = None
        elif kind == "blocks":
            content, what = _blocks(path.read_bytes(), rng)
        elif kind == "headers":
            content, what = _headers(material[which], rng)
        else:
            files = dict(material[which])
            member = rng.choice(list(files))
            damage = _picture if member.endswith(".png") else damaged
            files[member], what = damage(files[member], rng)
            content = tar_of(files)
            exact = material["results"][entry] if which != "samples" and damage is damaged else None
        path.write_bytes(content)
        names = (path.name, FOLDER, "extra")

    def check(found):
        if exact is not None:
            demand(_same(found, exact), f"a damaged archive gives other results at {entry}")
        if entry == "evaluate":
            flat = [number for value in found.values() for number in (value if isinstance(value, list) else [value])]
            demand(
                all(-1 <= number <= 10 or math.isnan(number) for number in flat if number is not None),
                "metrics out of range",
            )

    return Case(
        f"{entry} of {kind}: {what} in {path.name}",
        names,
        lambda: ENTRIES[entry](folder),
        check,
        writes=entry in ("sample", "encode"),
    )


def _same(a, b) -> bool:
    """Equal, NaN to NaN."""
    return repr(a) == repr(b)


def _picture(content: bytes, rng: Random) -> tuple[bytes, str]:
    side = rng.choice((12, 4000, 20_000, 60_000))
    return rng.choice(
        (
            damaged(content, rng),
            (_png(np.full((9, 12), 200, np.uint8)), "class 200"),
            (_png(np.zeros((9, 12), np.uint16)), "16 bits"),
            (_png(np.zeros((9, 12, 3), np.uint8)), "colours"),
            (_png(np.zeros((1, 1), np.uint8)), "one pixel"),
            (_png(np.zeros((12, 9), np.uint8)), "turned"),
            (
                png_file(
                    (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
                    (b"IDAT", zlib.compress(bytes(side * (side // 8 + 1)), 1)),
                    (b"IEND", b""),
                ),
                f"{side} x {side}",
            )
            if side <= 20_000
            else (
                png_file(
                    (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", b"x"), (b"IEND", b"")
                ),
                f"{side} announced",
            ),
            (EPS, "EPS"),
            (b"", "nothing"),
        )
    )


def _blocks(content: bytes, rng: Random) -> tuple[bytes, str]:
    """Whole blocks of a tar removed, doubled, exchanged or blanked."""
    blocks = [content[place : place + 512] for place in range(0, len(content), 512)]
    at = rng.randrange(min(len(blocks), 14))
    action = rng.choice(("remove", "double", "exchange", "blank", "cut", "twice"))
    if action == "remove":
        del blocks[at]
    elif action == "double":
        blocks.insert(at, blocks[at])
    elif action == "exchange":
        other = rng.randrange(min(len(blocks), 14))
        blocks[at], blocks[other] = blocks[other], blocks[at]
    elif action == "blank":
        blocks[at] = bytes(512)
    elif action == "cut":
        del blocks[at:]
    else:
        blocks += blocks
    return b"".join(blocks), f"{action} block {at}"


def _headers(files: dict[str, bytes], rng: Random) -> tuple[bytes, str]:
    """A tar with right checksums that names, links or announces what it should not."""
    buffer = io.BytesIO()
    victim = rng.randrange(len(files))
    form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    action = rng.choice(
        ("name", "name", "type", "type", "size", "pax", "compressed", "twice", "sparse", "extra", "raw")
    )
    if action == "compressed":
        compression = rng.choice(("gz", "bz2", "xz"))
        content = tar_of(files, compression=compression)
        return (damaged(content, rng)[0] if rng.random() < 0.5 else content), f"{compression}"
    what = action
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for number, (name, content) in enumerate(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if number == victim and action == "name":
                member.name = rng.choice(
                    (
                        "../../evil",
                        "/evil",
                        f"{FOLDER}/../../{name}",
                        name.upper(),
                        "a" * 90 + "/" + "a" * 90,
                        "x\nb",
                        "./" + name,
                        name + "/",
                        "..",
                        "C:\\x",
                        "\udcff",
                    )
                )
                what = f"name {member.name[:30]!r}"
            elif number == victim and action == "type":
                member.type = rng.choice(
                    (
                        tarfile.SYMTYPE,
                        tarfile.LNKTYPE,
                        tarfile.CHRTYPE,
                        tarfile.FIFOTYPE,
                        tarfile.DIRTYPE,
                        tarfile.CONTTYPE,
                        b"Z",
                        tarfile.BLKTYPE,
                    )
                )
                member.linkname = rng.choice(("/etc/passwd", "../../secret", name, "", next(iter(files))))
                if member.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                    member.size, content = 0, b""
                what = f"type {member.type!r} to {member.linkname}"
            elif number == victim and action == "pax":
                member.pax_headers = rng.choice(
                    (
                        {"size": "99999999999"},
                        {"size": "-5"},
                        {"size": "x"},
                        {"path": "../../evil"},
                        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9999999999999"},
                        {"GNU.sparse.map": "0,1,x"},
                        {"mtime": "nan"},
                        {"path": ""},
                        {"linkpath": "/etc/passwd"},
                        {"hdrcharset": "BINARY"},
                        {"a" * 1000: "b" * 10_000},
                    )
                )
                what = f"pax {str(member.pax_headers)[:60]}"
            archive.addfile(member, io.BytesIO(content))
            if number == victim and action == "twice":
                archive.addfile(
                    member,
                    io.BytesIO(
                        content if rng.random() < 0.5 else damaged(content, rng)[0][: member.size].ljust(member.size)
                    ),
                )
            if number == victim and action == "extra":
                for index in range(rng.choice((1, 3000))):
                    other = tarfile.TarInfo(
                        rng.choice((f"{FOLDER}/x{index}_encoded.bin", f"extra{index}", f"{FOLDER}/{index}{LABEL}"))
                    )
                    archive.addfile(other)
    content = bytearray(buffer.getvalue())
    if action in ("size", "sparse", "raw"):
        start = rng.choice(
            [place for place in range(0, len(content), 512) if content[place + 257 : place + 262] == b"ustar"]
        )
        if action == "size":
            field = rng.choice(
                (
                    b"77777777777\0",
                    b"\x80" + b"\x7f" * 11,
                    b"\xff" * 12,
                    b"00000000000\0",
                    b"abcdefghijk\0",
                    b"-0000000001\0",
                    b"\x80" + bytes(7) + b"\xff\xff\xff\xff",
                    bytes(12),
                )
            )
            content[start + 124 : start + 136] = field
            what = f"size {field!r}"
        elif action == "sparse":
            content[start + 156 : start + 157] = rng.choice((b"S", b"L", b"K", b"x", b"g"))
            content[start + 386 : start + 512] = rng.choice((bytes(126), b"7" * 126, rng.randbytes(126)))
        else:
            place = start + rng.randrange(500)
            content[place : place + 8] = rng.choice((bytes(8), b"\xff" * 8, rng.randbytes(8)))
        content[start + 148 : start + 156] = b" " * 8
        content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    return bytes(content), what


def _samples(material: dict, rng: Random) -> Case:
    original = rng.choice(list(material["samples"].values()))
    raw = zstandard.ZstdDecompressor().decompress(original)
    megabytes = rng.choice((1, 8, 64, 400))
    packed = lambda content: zstandard.ZstdCompressor(3).compress(content)
    content, what = rng.choice(
        (
            lambda: damaged(original, rng, rng.choice(list(material["sent"].values()))),
            lambda: damaged(original, rng),
            lambda: (packed(damaged(raw, rng)[0]), "other samples"),
            lambda: (packed(raw[:3] + b"\xff" * 3 + raw[6:]), "a late start"),
            lambda: (packed(rng.choice(NUMBERS).to_bytes(8, "little")[:3] + raw[3:]), "another count"),
            lambda: (
                packed((100).to_bytes(3, "little") + bytes(3) + b"\1" * (megabytes * 1_000_000)),
                f"{megabytes} MB of steps",
            ),
            lambda: (packed(b"\xff\xff\xff" + bytes(3) + b"\1" * (2**24 - 2)), "as many as can be"),
            lambda: (packed(bytes(megabytes * 2**20)), f"{megabytes} MB of zeros"),
            lambda: (original + original, "two frames"),
            lambda: (b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + bytes(9), "an announced size of 2 ** 64"),
            lambda: (b"\x50\x2a\x4d\x18" + b"\xff\xff\xff\xff", "a frame to skip"),
            lambda: (b"\x28\xb5\x2f\xfd\x04\xf8" + bytes(20), "a window of gigabytes"),
            lambda: (b"", "nothing"),
        )
    )()

    def check(found):
        demand(found.ndim == 1 and found.dtype.kind == "i" and len(found), f"{found.dtype} {found.shape}")
        demand(found[0] >= 0 and found[-1] < MAX_PIXELS and (np.diff(found) > 0).all(), "indices do not rise")

    return Case(f"samples: {what}", ("x_samples.bin",), lambda: decode_samples(content, "a/x_samples.bin"), check)


def _encoded(material: dict, rng: Random) -> Case:
    original = rng.choice(list(material["sent"].values()))
    fields = list(HEADER.unpack(original[: HEADER.size]))
    body = original[HEADER.size : -4]
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    expected = None
    kind = rng.choice(("bytes", "bytes", "fields", "fields", "body", "bomb", "sides", "empty"))
    megabytes = rng.choice((1, 30, 500))
    if kind == "bytes":
        content, what = damaged(original, rng)
        expected = decode_prediction(original)
    else:
        what = kind
        if kind == "fields":
            for _ in range(rng.choice((1, 2))):
                fields[rng.randrange(1, 7)] = rng.choice((*NUMBERS, 9, 12, 108, 216))
            what = str(fields)
        elif kind == "body":
            body = (
                damaged(body, rng)[0]
                if rng.random() < 0.5
                else zstandard.ZstdCompressor(3).compress(damaged(raw, rng)[0])
            )
        elif kind == "bomb":
            body = zstandard.ZstdCompressor(3).compress(bytes(megabytes * 2**20))
            if rng.random() < 0.5:  # samples are announced that the image has no pixels for
                fields[4], fields[6] = (megabytes * 2**20 - 108) // 2, megabytes * 2**20 - 108
            what = f"{megabytes} MB"
        elif kind == "sides":
            fields[2:4] = rng.choice(([108, 1], [1, 108], [0, 2**32 - 1], [2**16, 2**16], [54, 2]))
        else:
            fields[2:7], body = [0, rng.choice((0, 5)), 0, 0, 0], zstandard.ZstdCompressor(3).compress(b"")
        content = HEADER.pack(*fields) + body
        content += zlib.crc32(content).to_bytes(4, "little")

    def check(found):
        classes, levels = found
        demand(
            classes.dtype == np.uint8 and classes.ndim == 2 and levels.dtype == np.uint16 and levels.ndim == 1, "types"
        )
        demand(not classes.size or classes.max() < 19, "classes")
        demand(
            0 < classes.size <= MAX_PIXELS and len(levels) <= classes.size, f"{classes.shape} and {len(levels)} samples"
        )
        if expected is not None:
            demand(all(map(np.array_equal, found, expected)), "a damaged file gives another prediction")

    return Case(f"encoded: {what}", ("x_encoded.bin",), lambda: decode_prediction(content, "a/x_encoded.bin"), check)


def _pair(material: dict, rng: Random, folder: Path) -> Case:
    paths = prediction_paths(folder / "tree", "mini/ACDCfog", "fog/test/a/1")
    for path, content in zip(paths, list(material["tree"].values())[:2], strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    path = rng.choice(paths)
    content, what = _picture(path.read_bytes(), rng)
    path.write_bytes(content)

    def check(found):
        classes, levels = found
        demand(classes.dtype == np.uint8 and levels.dtype == np.uint16, f"{classes.dtype}, {levels.dtype}")
        demand(classes.ndim == levels.ndim == 2, f"{classes.shape}, {levels.shape}")

    return Case(
        f"pair: {what}", (path.name,), lambda: read_prediction(folder / "tree", "mini/ACDCfog", "fog/test/a/1"), check
    )
