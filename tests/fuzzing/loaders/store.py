"""The embedding store: its record, the metadata of its arrays, its chunks.

All of them carry checksums: a store with damaged files gives the very rows that were put in, or is refused. Only who
makes the record's checksum right again may tell another story; then shapes have to fit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import numpy as np

from iood_helpers.method.store import EmbeddingStore

from ..cases import Case, demand
from ..mutators import as_text, damaged, damaged_json, odd_text

COLUMNS = ("embeddings", "label", "predicted", "image", "pixel", "confidence")


def prepare(folder: Path) -> dict:
    chance = np.random.default_rng(0)
    store = EmbeddingStore.open_or_create(folder / "store", 3, {"a": 1, "per": "label"})
    for name, number in (("one", 300), ("two", 17)):
        store.append(
            name,
            {
                "embeddings": chance.normal(size=(number, 3)),
                "label": chance.integers(0, 19, number),
                "predicted": chance.integers(0, 19, number),
                "confidence": chance.random(number),
                "pixel": chance.integers(0, 900, (number, 2)),
            },
        )
    store.finish()
    return {"path": folder / "store", "rows": EmbeddingStore.open(folder / "store").load(None)}


def make(material: dict, rng: Random, folder: Path) -> Case:
    path = folder / "store"
    shutil.copytree(material["path"], path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != ".lock" and p.stat().st_size)
    kind = rng.choice(
        ("bytes", "bytes", "record", "record", "sealed", "metadata", "metadata", "chunks", "chunks", "tree")
    )
    exact = kind != "sealed"
    what = ""
    if kind == "bytes":
        target = rng.choice(files)
        content, what = damaged(target.read_bytes(), rng, rng.choice(files).read_bytes())
        target.write_bytes(content)
        what = f"{what} of {target.relative_to(path)}"
    elif kind in ("record", "sealed"):
        what = _record(path / "progress.json", rng, seal=kind == "sealed")
    elif kind == "metadata":
        target = rng.choice([p for p in files if p.name == "zarr.json"])
        if rng.random() < 0.9:
            content, what = damaged_json(json.loads(target.read_text()), rng)
            target.write_bytes(as_text(content))
        else:
            content, what = odd_text(rng)
            target.write_bytes(content)
        what = f"{what} in {target.relative_to(path)}"
    elif kind == "chunks":
        what = _chunks([p for p in files if "c" in p.relative_to(path).parts], rng, folder)
    else:
        what = _tree(path, files, rng)
    n_per_class = rng.choice((None, None, 5))

    def check(found):
        rows = len(found.label)
        for column in COLUMNS:
            values = getattr(found, column)
            demand(
                len(values) == rows and values.dtype == getattr(material["rows"], column).dtype,
                f"{column} {values.shape}",
            )
            if exact and n_per_class is None:
                demand(
                    np.array_equal(values, getattr(material["rows"], column)), f"a damaged store gives another {column}"
                )
        demand(np.isfinite(found.embeddings).all(), "vectors that are not finite")

    return Case(f"{kind}: {what}", ("store",), lambda: EmbeddingStore.open(path).load(n_per_class), check)


def _record(path: Path, rng: Random, seal: bool) -> str:
    if not seal and rng.random() < 0.15:
        content, what = odd_text(rng)
        path.write_bytes(content)
        return what
    record = json.loads(path.read_text())
    known = record.pop("sha256", None)
    changed, what = damaged_json(record, rng)
    if seal and isinstance(changed, dict) and known is not None:
        from iood_helpers.method.progress import digest

        try:
            changed["sha256"] = digest(changed)
        except (ValueError, UnicodeError):
            changed["sha256"] = known
    elif isinstance(changed, dict) and known is not None:
        changed["sha256"] = known
    if not seal and changed == record | {"sha256": known}:
        changed = None
    path.write_bytes(as_text(changed))
    return what


def _chunks(chunks: list[Path], rng: Random, folder: Path) -> str:
    chunk, other = rng.choice(chunks), rng.choice(chunks)
    action = rng.choice(("remove", "cut", "flip", "exchange", "copy", "empty", "longer", "link", "folder", "zeros"))
    content = chunk.read_bytes()
    if action == "remove":
        chunk.unlink()
    elif action == "cut":
        chunk.write_bytes(content[: rng.randrange(len(content))])
    elif action == "flip":
        changed = bytearray(content)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        chunk.write_bytes(changed)
    elif action == "exchange":
        chunk.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif action == "copy":
        chunk.write_bytes(other.read_bytes())
    elif action == "empty":
        chunk.write_bytes(b"")
    elif action == "longer":
        chunk.write_bytes(content + rng.randbytes(rng.choice((1, 4, 4096))))
    elif action == "link":
        chunk.unlink()
        chunk.symlink_to(folder / "gone")
    elif action == "folder":
        chunk.unlink()
        chunk.mkdir()
    else:
        chunk.write_bytes(bytes(len(content)))
    return f"{action} {'/'.join(chunk.parts[-4:])}"


def _tree(path: Path, files: list[Path], rng: Random) -> str:
    action = rng.choice(
        ("file for folder", "no record", "no rows", "extra", "record is a folder", "column gone", "temporary", "empty")
    )
    if action == "file for folder":
        shutil.rmtree(path / "rows.zarr")
        (path / "rows.zarr").write_text("x")
    elif action == "no record":
        (path / "progress.json").unlink()
    elif action == "no rows":
        shutil.rmtree(path / "rows.zarr")
    elif action == "extra":
        (path / "rows.zarr" / rng.choice(("zarr.json.partial", ".zgroup", "label.zarr", ".zmetadata"))).write_text("{}")
    elif action == "record is a folder":
        (path / "progress.json").unlink()
        (path / "progress.json").mkdir()
    elif action == "column gone":
        shutil.rmtree(path / "rows.zarr" / rng.choice(("label", "pixel", "embeddings")), ignore_errors=True)
    elif action == "temporary":
        (path / ".progress.1.tmp.json").write_text("{")
    else:
        shutil.rmtree(path)
        path.mkdir()
    return action
