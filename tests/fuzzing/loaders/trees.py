"""Folders of pictures and lists of names: links, loops, odd names, formats beside each other, lists of any text.

What is listed has to exist, once each, and every picture has to be read or refused by name.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from iood_helpers.datasets import BRAVO_LAYOUT, load_dataset
from iood_helpers.errors import DatasetError

from ..cases import Case, demand
from ..mutators import damaged, odd_text


def _encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def prepare(folder: Path) -> dict:
    chance = np.random.default_rng(0)
    color = Image.fromarray(chance.integers(0, 256, (32, 34, 3)).astype(np.uint8))
    label = _encoded(Image.fromarray(chance.integers(0, 11, (32, 34)).astype(np.uint8)))
    binary = _encoded(Image.fromarray(chance.integers(0, 2, (32, 34)).astype(np.uint8)))
    overlay = io.BytesIO()
    np.savez_compressed(overlay, rgb=chance.integers(-9, 9, (32, 34, 3)))
    image = _encoded(color)
    trees = {
        "camvid/train": {
            **{f"camvid/train/{name}.png": image for name in ("a1", "a2", "a3")},
            **{f"camvid/trainannot/{name}.png": label for name in ("a1", "a2", "a3")},
            "camvid/train.txt": b"/SegNet/CamVid/train/a1.png /SegNet/CamVid/trainannot/a1.png\na2.png\na3\n",
        },
        "cityscapes/val": {
            **{f"cityscapes/leftImg8bit/val/{t}/{t}_0_leftImg8bit.png": image for t in ("ulm", "aachen")},
            **{f"cityscapes/gtFine/val/{t}/{t}_0_gtFine_labelTrainIds.png": label for t in ("ulm", "aachen")},
        },
        "bravo/synobjs": {
            f"bravo/bravo_synobjs/{name}{ending}": image if ending == ".png" else label
            for name in ("x/1", "x/2")
            for ending in (".png", "_gt.png", "_mask.png")
        },
        "bravo/ACDCfog": {
            f"bravo/bravo_ACDC/fog/val/{name}{ending}": label
            for name in ("p/1", "p/2")
            for ending in (
                f"{BRAVO_LAYOUT['ACDCfog'].image}.png",
                BRAVO_LAYOUT["ACDCfog"].label,
                BRAVO_LAYOUT["ACDCfog"].mask,
            )
        },
        "roadanomaly/all": {
            f"roadanomaly/frames/{name}{ending}": image if ending == ".png" else binary
            for name in ("cow", "cone")
            for ending in (".png", ".labels/labels_semantic.png")
        },
        "fishyscapes/LostAndFound": {
            **{f"fishyscapes_lostandfound/000{n}_4_Weg_000000_00003{n}_labels.png": binary for n in (0, 1)},
            **{f"lostandfound/leftImg8bit/test/4_Weg/4_Weg_000000_00003{n}_leftImg8bit.png": image for n in (0, 1)},
        },
        "fishyscapes/Static": {
            "fs_val_v3/0000_ulm_000000_000019_labels.png": binary,
            "fs_val_v3/0000_ulm_000000_000019_rgb.npz": overlay.getvalue(),
            "cityscapes/leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png": image,
        },
        "masks/shots": {
            **{f"shots/{name}.png": image for name in ("1", "2")},
            **{f"shots/{name}_mask.png": label for name in ("1", "2")},
        },
    }
    return {
        "trees": trees,
        "image": image,
        "label": label,
        "jpeg": _encoded(color, "JPEG"),
        "gif": _encoded(color, "GIF"),
    }


def make(material: dict, rng: Random, folder: Path) -> Case:
    split = rng.choice(list(material["trees"]))
    files = dict(material["trees"][split])
    root = folder / "root"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    whats = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        change = rng.choice(_CHANGES)
        path = root / rng.choice(sorted(files))
        if not path.is_file():  # a pipe that an earlier change made would be read for ever
            continue
        try:
            whats.append(
                f"{change(path, rng, material, root) or change.__name__.strip('_')} at {path.relative_to(root)}"
            )
        except OSError:  # the earlier change took away what this one needs
            continue
    limit, seed = rng.choice(((None, None), (None, None), (1, None), (10**12, 3), (2, 0)))

    def load():
        return load_dataset(split, root=root, limit=limit, seed=seed)

    return Case(f"{split}: {', '.join(whats)}", (root.as_posix(),), load, lambda found: _check(found, limit))


def _check(found, limit) -> None:
    names = [sample.name for sample in found]
    demand(names and len(set(names)) == len(names), "an image is there twice, or none is")
    demand(limit is None or len(names) <= limit, "more images than asked for")
    for sample in found:
        demand(not sample.image_path.name.startswith("."), f"hidden: {sample.image_path.name}")
        for read, path in (
            (sample.image, sample.overlay_path or sample.image_path),
            (sample.label, sample.label_path),
            (sample.invalid, sample.invalid_path),
        ):
            try:
                read()
            except DatasetError as error:
                demand(
                    any(p is not None and p.name in str(error) for p in (path, sample.image_path)),
                    f"no name in: {error}",
                )
    repr(found)


def _damage(path, rng, material, root):
    content, what = damaged(path.read_bytes(), rng, material["jpeg"])
    path.write_bytes(content)
    return what


def _remove(path, rng, material, root):
    path.unlink()


def _remove_folder(path, rng, material, root):
    import shutil

    shutil.rmtree(rng.choice((path.parent, path.parent.parent)))


def _odd_name(path, rng, material, root):
    name = rng.choice(
        (
            ".hidden.png",
            "._a1.png",
            "Thumbs.db",
            "a b.png",
            "ä.png",
            "a\nb.png",
            "-x.PNG",
            "x" * 240 + ".png",
            "%s{0}.png",
            "a..png",
            ".png",
            "no_suffix",
        )
    )
    path.with_name(name).write_bytes(material["image"])
    return repr(name[:20])


def _bytes_name(path, rng, material, root):
    with open(os.fsencode(path.parent) + b"/\xff\xfe.png", "wb") as stream:
        stream.write(material["image"])


def _other_format(path, rng, material, root):
    suffix, content = rng.choice(
        ((".jpg", "jpeg"), (".JPG", "jpeg"), (".gif", "gif"), (".webp", "image"), (".tif", "label"), (".jpeg", "gif"))
    )
    path.with_suffix(suffix).write_bytes(material[content])
    return f"beside it {suffix}"


def _folder_named(path, rng, material, root):
    path.unlink()
    path.mkdir()
    return "a folder in place of the file"


def _empty(path, rng, material, root):
    path.write_bytes(b"")


def _loop(path, rng, material, root):
    (path.parent / "loop").symlink_to(rng.choice((path.parent, root, ".", "..", "loop")))
    return "a link that leads back"


def _link(path, rng, material, root):
    content = path.read_bytes()
    elsewhere = root.parent / f"elsewhere{rng.randrange(3)}.png"
    elsewhere.write_bytes(content)
    path.unlink()
    path.symlink_to(elsewhere)
    return "a link to a file"


def _dangling(path, rng, material, root):
    path.unlink()
    path.symlink_to(rng.choice(("gone", "/nonexistent/x.png", path.name)))
    return "a link to nothing"


def _linked_folder(path, rng, material, root):
    elsewhere = root.parent / "town"
    path.parent.rename(elsewhere)
    path.parent.symlink_to(elsewhere)
    return "a link to a folder"


def _pipe(path, rng, material, root):
    path.unlink()
    os.mkfifo(path)
    return "a pipe"


def _list(path, rng, material, root):
    place = root / "camvid/train.txt"
    if not place.is_file():
        raise FileNotFoundError
    names = (
        b"a1",
        b"a1.png",
        b"../../x.png",
        b"/etc/passwd",
        b" ",
        b"\t\xa0",
        b"a1 a2 a3",
        b"\0",
        b"a9.png",
        b"\xff\xfe",
        b"train\\a2.png",
        b"# a1",
        b"." * 300,
        b"a" * 100_000,
    )
    content = rng.choice((b"\n", b"\r\n", b"\r", b"\0", "\u2028".encode())).join(
        rng.choice(names) for _ in range(rng.randrange(6))
    )
    if rng.random() < 0.3:
        content = odd_text(rng)[0]
    if rng.random() < 0.2:
        content = content.decode("latin-1").encode("utf-16")
    place.write_bytes(content)
    return f"a list {content[:60]!r}"


def _deep(path, rng, material, root):
    folder = path.parent
    for _ in range(rng.choice((5, 60))):
        folder = folder / "deeper"
    folder.mkdir(parents=True)
    (folder / path.name).write_bytes(material["image"])
    return "a picture far below"


_CHANGES = (
    _damage,
    _damage,
    _remove,
    _remove_folder,
    _odd_name,
    _odd_name,
    _bytes_name,
    _other_format,
    _folder_named,
    _empty,
)
_CHANGES += (_loop, _link, _dangling, _linked_folder, _pipe, _list, _list, _list, _list, _deep)
