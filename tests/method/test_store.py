"""The store keeps what was put in, resumes, and refuses to mix."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from conftest import ROOT, make_prediction

from iood_helpers.errors import DatasetError, EmbeddingError, FileError, LockedError
from iood_helpers.method.embedder import ALL_LEVELS, PixelEmbedder
from iood_helpers.method.store import EmbeddingStore, extract_embeddings


@dataclass
class Dataset:
    """Seeds as images, random labels."""

    number: int = 4
    name: str = "toy"
    split: str = "train"

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        label = np.random.default_rng(index).choice([0, 1, 2, 255], (37, 50), p=[0.5, 0.3, 0.05, 0.15]).astype(np.uint8)
        return SimpleNamespace(name=f"image{index}", image=lambda: index, label=lambda: label)


@dataclass
class Segmenter:
    """Predicts from the seed; may break at one image."""

    breaks_at: int | None = None
    checkpoint: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(sha256="0" * 64))
    precision: str = "float32"

    def predict(self, image):
        if image == self.breaks_at:
            raise KeyboardInterrupt
        return make_prediction(image)


def extract(path, breaks_at=None, embedder=None, **options):
    options = {"n_per_class": 40, "progress": False, **options}
    return extract_embeddings(Segmenter(breaks_at), Dataset(), embedder or PixelEmbedder((0,)), path, **options)


def same(a: EmbeddingStore, b: EmbeddingStore) -> bool:
    return all(np.array_equal(getattr(a.load(), c), getattr(b.load(), c)) for c in vars(a.load()))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(n, value, width=3):
    return {
        "label": np.full(n, value),
        "predicted": np.full(n, value),
        "confidence": np.full(n, 0.5),
        "pixel": np.full((n, 2), value),
        "embeddings": np.full((n, width), value, np.float32),
    }


def small(path, images=3):
    """Complete store; image i has 5 rows of i."""
    with EmbeddingStore.open_or_create(path, 3, {"a": 1}) as store:
        for i in range(images):
            store.append(f"image {i}", rows(5, i))
        store.finish()
    return store


def test_rows_say_where_they_come_from(tmp_path):
    store = extract(tmp_path / "store")
    rows = store.load()
    assert store.is_complete and store.names == [f"image{i}" for i in range(4)] and len(store) == len(rows.label)
    for i in (0, len(store) // 2, len(store) - 1):
        prediction, label = make_prediction(int(rows.image[i])), Dataset()[int(rows.image[i])].label()
        row, column = rows.pixel[i]
        assert label[row, column] == rows.label[i] < 19
        assert prediction.classes[row, column] == rows.predicted[i]
        assert prediction.confidence[row, column] == rows.confidence[i]
        vector = PixelEmbedder((0,)).transform(prediction, rows.pixel[i : i + 1])
        np.testing.assert_allclose(vector[0], rows.embeddings[i], rtol=1e-5, atol=1e-6)


def test_every_image_gives_at_most_its_share(tmp_path):
    rows = extract(tmp_path / "store", n_per_class=8, oversampling=2.0).load()
    counts = np.zeros((4, 3), int)
    np.add.at(counts, (rows.image, rows.label), 1)
    assert counts.max() == 4  # 2 * 8 / 4


def test_shares_per_predicted_class(tmp_path):
    rows = extract(tmp_path / "store", n_per_class=8, oversampling=2.0, per="predicted").load()
    counts = np.zeros((4, 3), int)
    np.add.at(counts, (rows.image, rows.predicted), 1)
    assert (counts == 4).all() and (rows.label < 19).all()
    assert (rows.label != rows.predicted).any()


def test_loading_trims_classes_with_a_seed(tmp_path):
    store = extract(tmp_path / "store")
    a, b, c = store.load(10, seed=0), store.load(10, seed=0), store.load(10, seed=1)
    assert np.bincount(a.label).tolist() == [10, 10, min(10, (store.load().label == 2).sum())]
    assert np.array_equal(a.pixel, b.pixel) and not np.array_equal(a.pixel, c.pixel)


@pytest.mark.parametrize("breaks_at", [0, 1, 3])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, breaks_at):
    whole = extract(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "parts", breaks_at=breaks_at)
    assert same(extract(tmp_path / "parts"), whole)


def test_rows_that_nobody_counted_are_cut_off(tmp_path, monkeypatch):
    whole = extract(tmp_path / "whole")
    commit = EmbeddingStore._commit

    def dies(self, **changes):
        if len(changes.get("names", [])) == 3:
            raise KeyboardInterrupt
        commit(self, **changes)

    monkeypatch.setattr(EmbeddingStore, "_commit", dies)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "parts")  # the rows of the third image are written, but do not count
    monkeypatch.undo()
    before = contents(tmp_path / "parts")
    assert len(EmbeddingStore.open(tmp_path / "parts").load().label) == len(EmbeddingStore.open(tmp_path / "parts"))
    assert len(EmbeddingStore.open(tmp_path / "parts").names) == 2
    assert contents(tmp_path / "parts") == before  # reading cuts nothing off
    assert same(extract(tmp_path / "parts"), whole)


def test_a_complete_store_is_not_computed_again(tmp_path):
    extract(tmp_path / "store")
    extract(tmp_path / "store", breaks_at=0)


def test_other_parameters_are_refused_and_named(tmp_path):
    extract(tmp_path / "store")
    with pytest.raises(EmbeddingError, match="sample_seed: 0 instead of 7"):
        extract(tmp_path / "store", seed=7)


def test_precisions_are_not_mixed(tmp_path):
    extract(tmp_path / "store")
    with pytest.raises(EmbeddingError, match="precision: None instead of bfloat16"):
        extract_embeddings(
            Segmenter(precision="bfloat16"), Dataset(), PixelEmbedder((0,)), tmp_path / "store", n_per_class=40
        )


def test_no_store_and_a_damaged_one(tmp_path):
    with pytest.raises(EmbeddingError, match="no readable embedding store"):
        EmbeddingStore.open(tmp_path)
    store = extract(tmp_path / "store")
    (store.path / "progress.json").write_text('{"format": 1, "rows"')
    with pytest.raises(EmbeddingError, match="no readable embedding store"):
        EmbeddingStore.open(store.path)


def test_levels_are_read_by_themselves_and_in_any_order(tmp_path):
    store = extract(tmp_path / "all", embedder=PixelEmbedder(ALL_LEVELS))
    assert store.widths == {0: 3, 1: 4, 2: 5, 3: 6, "decoder": 4, "logits": 19}
    assert store.levels == list(ALL_LEVELS)
    for levels in [(0,), (3, "decoder", 1), ("logits",), None]:
        alone = extract(tmp_path / f"alone {levels}", embedder=PixelEmbedder(levels or ALL_LEVELS))
        for n_per_class in (None, 12):
            a, b = store.load(n_per_class, levels=levels), alone.load(n_per_class)
            for column in vars(a):
                np.testing.assert_array_equal(getattr(a, column), getattr(b, column))
    with pytest.raises(EmbeddingError, match="holds levels"):
        store.load(levels=(0, "classes"))
    mixed = extract(tmp_path / "one", embedder=PixelEmbedder((0, 1), "random", dim=5))
    assert mixed.widths == {"projected": 5}
    np.testing.assert_array_equal(mixed.load(levels=(0, 1)).embeddings, mixed.load().embeddings)
    for levels in [(0,), (1, 0)]:
        with pytest.raises(EmbeddingError, match="holds levels"):
            mixed.load(levels=levels)


@pytest.mark.parametrize("inside", ["thesis.tex", "rows.zarr/label/zarr.json", "images.json", ".hidden"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, inside):
    (tmp_path / "results" / inside).parent.mkdir(parents=True)
    (tmp_path / "results" / inside).write_text("a year's work")
    before = contents(tmp_path)
    with pytest.raises(EmbeddingError, match=f"results holds {inside.split('/')[0]} and is no embedding store"):
        EmbeddingStore.open_or_create(tmp_path / "results", 3, {})
    with pytest.raises(EmbeddingError, match="no embedding store"):
        extract(tmp_path / "results")
    (tmp_path / "results" / "progress.json").write_text('{"step": 3}')  # of another program
    with pytest.raises(EmbeddingError, match="delete it"):
        EmbeddingStore.open_or_create(tmp_path / "results", 3, {})
    (tmp_path / "results" / "progress.json").unlink()
    assert contents(tmp_path) == before


def test_one_writer_at_a_time(tmp_path):
    store = EmbeddingStore.open_or_create(tmp_path / "store", 3, {})
    store.append("a", rows(5, 0))
    with pytest.raises(LockedError, match=f"in use by process {os.getpid()} on "):
        EmbeddingStore.open_or_create(tmp_path / "store", 3, {})
    reader = EmbeddingStore.open(tmp_path / "store")
    with pytest.raises(EmbeddingError, match="reading only"):
        reader.append("b", rows(5, 1))
    assert reader._columns._arrays["label"].read_only
    store.close()
    other = EmbeddingStore.open_or_create(tmp_path / "store", 3, {})
    other.append("b", rows(5, 1))
    other.finish()
    assert EmbeddingStore.open(tmp_path / "store").load().label.tolist() == [0] * 5 + [1] * 5
    with pytest.raises(EmbeddingError, match="reading only"):
        other.append("c", rows(5, 2))


def test_extraction_holds_the_lock_from_the_first_image_on(tmp_path):
    seen = []

    class Nosy(Segmenter):
        def predict(self, image):
            with pytest.raises(LockedError):
                extract(tmp_path / "store")
            seen.append(image)
            return super().predict(image)

    extract_embeddings(Nosy(), Dataset(), PixelEmbedder((0,)), tmp_path / "store", n_per_class=40, progress=False)
    assert seen == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_killed_writer_frees_the_store(tmp_path):
    whole = extract(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "store", breaks_at=2)
    code = f"""
import os, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
import test_store as t
class Dies(t.Segmenter):
    def predict(self, image):
        os.kill(os.getpid(), 9) if image == 3 else None
        return super().predict(image)
t.extract_embeddings(Dies(), t.Dataset(), t.PixelEmbedder((0,)), {str(tmp_path / "store")!r}, n_per_class=40)
"""
    (tmp_path / "store" / "rows.zarr" / "label" / "c" / "0.5a.partial").write_bytes(b"half a chunk")
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == -9
    assert len(EmbeddingStore.open(tmp_path / "store").names) == 3
    assert same(extract(tmp_path / "store"), whole)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_complete_store_in_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    first = extract(tmp_path / "store")

    def forbidden(*_):
        raise AssertionError("asked for the lock")

    monkeypatch.setattr("iood_helpers.method.store.claim", forbidden)
    before = contents(tmp_path)
    assert same(extract(tmp_path / "store"), first)
    assert contents(tmp_path) == before


class Files(Dataset):
    """Images and labels in files; what is in them does not matter to the segmenter."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        folder.mkdir()
        for i in range(4):
            (folder / f"{i}.png").write_bytes(b"image %d" % i)
            (folder / f"{i}_label.png").write_bytes(b"label %d" % i)

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        sample.image_path, sample.label_path = (self.folder / f"{index}{end}.png" for end in ("", "_label"))
        return sample


def test_a_store_knows_its_images(tmp_path):
    def again(dataset, path="store"):
        return extract_embeddings(
            Segmenter(), dataset, PixelEmbedder((0,)), tmp_path / path, n_per_class=40, progress=False
        )

    here, there = Files(tmp_path / "here"), Files(tmp_path / "there")
    assert same(again(here), again(there))  # copies are the same images
    again(there, "other")
    for name, what in (("2.png", "image2"), ("1_label.png", "image1")):
        kept = (there.folder / name).read_bytes()
        (there.folder / name).write_bytes(kept[::-1])  # as long as before
        with pytest.raises(EmbeddingError, match=f"made of other images \\({what} has changed\\)"):
            again(there)
        (there.folder / name).write_bytes(kept)
    shutil.rmtree(tmp_path / "there")
    with pytest.raises(DatasetError, match=r"0\.png cannot be read"):
        again(there)


def test_images_of_other_names_are_refused(tmp_path):
    extract(tmp_path / "store")

    class Renamed(Dataset):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            sample.name = {1: "another"}.get(index, sample.name)
            return sample

    with pytest.raises(EmbeddingError, match="another is new, image1 is gone"):
        extract_embeddings(Segmenter(), Renamed(), PixelEmbedder((0,)), tmp_path / "store", n_per_class=40)


@pytest.mark.parametrize(
    "chunk", ["label/c/0", "confidence/c/0", "pixel/c/0/0", "image/c/0", "embeddings/c/0/0", "predicted/c/0"]
)
@pytest.mark.parametrize("damage", ["gone", "short", "empty", "flipped"])
def test_a_chunk_that_is_missing_or_damaged(tmp_path, chunk, damage):
    small(tmp_path / "store")
    path = tmp_path / "store" / "rows.zarr" / chunk
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"short": bytes(content[:9]), "empty": b"", "flipped": bytes(content)}[damage])
    with pytest.raises(EmbeddingError, match=str(path)):
        EmbeddingStore.open(tmp_path / "store").load()


def test_a_damaged_chunk_is_found_before_a_writer_adds_to_it(tmp_path):
    with EmbeddingStore.open_or_create(tmp_path / "store", 3, {}) as store:
        store.append("a", rows(5, 1))
    path = tmp_path / "store/rows.zarr/embeddings/c/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(EmbeddingError, match=f"{path} is damaged"):
        EmbeddingStore.open_or_create(tmp_path / "store", 3, {})


def test_zeros_are_chunks_too(tmp_path):
    store = small(tmp_path / "store", images=1)  # label 0, vectors 0: nothing but fill values
    assert (store.load().embeddings == 0).all() and (store.path / "rows.zarr/embeddings/c/0/0").is_file()


def test_a_chunk_of_another_column_is_no_chunk(tmp_path):
    with EmbeddingStore.open_or_create(tmp_path / "store", 3, {}) as store:
        store.append("a", {**rows(5, 1), "predicted": np.full(5, 2)})
        store.finish()
    one, two = (tmp_path / "store/rows.zarr" / f"{name}/c/0" for name in ("label", "predicted"))
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    with pytest.raises(EmbeddingError, match="label are not those that were written"):
        EmbeddingStore.open(tmp_path / "store")


@pytest.mark.parametrize(
    "key, value", [("shape", [10, 3]), ("data_type", "float64"), ("chunk_key_encoding", {"name": "v2"})]
)
def test_damaged_metadata_of_columns(tmp_path, key, value):
    small(tmp_path / "store")
    path = tmp_path / "store/rows.zarr/embeddings/zarr.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(EmbeddingError, match="embeddings"):
        EmbeddingStore.open(tmp_path / "store")
    path.write_text("[1]")
    with pytest.raises(EmbeddingError, match=r"rows\.zarr cannot be read"):
        EmbeddingStore.open(tmp_path / "store")


@pytest.mark.parametrize(
    "key, value",
    [
        ("rows", "15"),
        ("rows", 1.5),
        ("rows", -1),
        ("rows", 5),
        ("rows", True),
        ("names", None),
        ("names", ["a", "b"]),
        ("names", [1, 2, 3]),
        ("counts", [5, 5, 6]),
        ("counts", [5, 5]),
        ("parameters", 3),
        ("parameters", {"per": "image"}),
        ("parameters", {"images": 9}),
        ("complete", "x"),
        ("levels", []),
        ("levels", [["projected", 0]]),
        ("levels", [["projected", 10**9]]),
        ("levels", [["classes", 3]]),
        ("levels", [["projected", 3], ["projected", 3]]),
        ("levels", 7),
        ("sums", []),
        ("images_sha256", 1),
        ("names", ...),
        ("counts", ...),
        ("complete", ...),
        ("format", 1),
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_progress_that_cannot_be(tmp_path, key, value, sealed):
    small(tmp_path / "store")
    before = contents(tmp_path / "store/rows.zarr")
    path = tmp_path / "store/progress.json"
    progress = json.loads(path.read_text())
    progress[key] = value
    if value is ...:
        del progress[key]
    if sealed:  # with the right checksum: each value is looked at
        from iood_helpers.method.progress import digest

        progress.pop("sha256")
        progress["sha256"] = digest(progress)
    path.write_text(json.dumps(progress))
    for opened in (EmbeddingStore.open, lambda p: EmbeddingStore.open_or_create(p, 3, {"a": 1})):
        with pytest.raises(EmbeddingError, match=str(tmp_path / "store")):
            opened(tmp_path / "store")
    assert contents(tmp_path / "store/rows.zarr") == before


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "[" * 9999, "\udcff", '{"format": 2}', '{"format": {}}'])
def test_progress_of_another_kind(tmp_path, text):
    small(tmp_path / "store")
    (tmp_path / "store/progress.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(EmbeddingError, match=str(tmp_path / "store")):
        EmbeddingStore.open(tmp_path / "store")


def test_a_name_that_was_changed(tmp_path):
    small(tmp_path / "store")
    path = tmp_path / "store/progress.json"
    path.write_text(path.read_text().replace("image 1", "image 7"))
    with pytest.raises(EmbeddingError, match="has changed since"):
        EmbeddingStore.open(tmp_path / "store")


@pytest.mark.parametrize(
    "column, value",
    [
        ("label", np.full(5, 255)),
        ("label", np.full(5, -1)),
        ("predicted", np.full(5, 1.5)),
        ("predicted", np.full(5, True)),
        ("confidence", np.full(5, np.nan)),
        ("confidence", np.full(5, 1.5)),
        ("confidence", np.full((5, 1), 0.5)),
        ("pixel", np.full((5, 3), 1)),
        ("pixel", np.full((5, 2), -1)),
        ("embeddings", np.full((5, 3), np.nan)),
        ("embeddings", np.full((5, 4), 1.0)),
        ("embeddings", np.full((4, 3), 1.0)),
        ("embeddings", np.full((5, 3), 1e300)),
    ],
)
def test_impossible_rows_are_refused_and_leave_nothing(tmp_path, column, value):
    with EmbeddingStore.open_or_create(tmp_path / "store", 3, {}) as store:
        store.append("a", rows(5, 1))
        with pytest.raises(EmbeddingError):
            store.append("b", {**rows(5, 2), column: value})
        store.append("c", rows(4, 3))
        assert store.names == ["a", "c"] and store.load().label.tolist() == [1] * 5 + [3] * 4


def test_images_without_rows(tmp_path):
    with EmbeddingStore.open_or_create(tmp_path / "store", 3, {}) as store:
        for name, n in (("a", 0), ("b", 2), ("c", 0)):
            store.append(name, rows(n, 1))
        store.finish()
    loaded = EmbeddingStore.open(tmp_path / "store").load()
    assert loaded.image.tolist() == [1, 1] and loaded.embeddings.shape == (2, 3)


def test_other_numbers_and_options(tmp_path):
    parameters = {"seed": np.int64(3), "share": np.float32(0.5), "levels": np.arange(2)}
    EmbeddingStore.open_or_create(tmp_path / "store", np.int64(3), parameters).close()
    with EmbeddingStore.open_or_create(tmp_path / "store", 3, {"seed": 3, "share": 0.5, "levels": [0, 1]}) as store:
        store.append("a", rows(5, 1))
        assert len(store.load(np.int32(2), seed=np.int64(1)).label) == 2
    with pytest.raises(EmbeddingError, match="3} instead of"):
        EmbeddingStore.open_or_create(tmp_path / "store", 4, parameters)
    for dim in (0, -1, 1.5, True, {}, {"classes": 3}):
        with pytest.raises(EmbeddingError):
            EmbeddingStore.open_or_create(tmp_path / "new", dim, {})
    for options in ({"n_per_class": 0}, {"seed": -1}, {"oversampling": np.nan}, {"per": "image"}, {"seed": 1.5}):
        with pytest.raises(EmbeddingError):
            extract(tmp_path / "new", **options)
    with pytest.raises(EmbeddingError, match="no images in toy/train"):
        extract_embeddings(Segmenter(), Dataset(0), PixelEmbedder((0,)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_many_chunks_are_read_in_order_and_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("iood_helpers.method.columns.CHUNK_BYTES", 400_000)
    monkeypatch.setattr("iood_helpers.method.columns.CHUNK_ROWS", 1024)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(24_000, 150)).astype(np.float32)
    with EmbeddingStore.open_or_create(tmp_path / "store", {0: 100, "logits": 50}, {}) as store:
        for i in range(8):
            part = vectors[3000 * i : 3000 * (i + 1)]
            store.append(f"{i}", {**rows(3000, 0), "label": np.arange(3000) % 19, "embeddings": part})
        store.finish()
    store = EmbeddingStore.open(tmp_path / "store")
    assert len(list((tmp_path / "store/rows.zarr/vectors/0/c").iterdir())) > 3
    np.testing.assert_array_equal(store.load().embeddings, vectors)
    few = store.load(5, levels=("logits",))
    np.testing.assert_array_equal(few.embeddings, vectors[3000 * few.image + _row(few, store), 100:])
    tracemalloc.start()
    store.load(5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < vectors.nbytes / 4  # not the whole columns


def _row(few, store):
    """Row of each loaded vector within its image, found anew by the draw."""
    rng = np.random.default_rng(0)
    label = np.tile(np.arange(3000) % 19, 8)
    chosen = np.sort(np.concatenate([rng.permutation(np.flatnonzero(label == c))[:5] for c in range(19)]))
    assert np.array_equal(chosen // 3000, few.image) and len(store) == len(label)
    return chosen % 3000


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    with EmbeddingStore.open_or_create(tmp_path / "store", 3, {}) as store:
        store.append("a", rows(5, 1))

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(zarr.Array, "resize", full)
            with pytest.raises(FileError, match=r"label cannot be written \(No space left on device\)"):
                store.append("b", rows(5, 2))
        store.append("b", rows(5, 2))
        store.finish()
    assert EmbeddingStore.open(tmp_path / "store").load().label.tolist() == [1] * 5 + [2] * 5
