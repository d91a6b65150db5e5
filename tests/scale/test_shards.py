"""Stores of shards at several addresses, and what is found to be wrong with them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scale_samples import DRAW, assert_same

from iood_helpers.errors import EmbeddingError, FileError, ScaleError
from iood_helpers.method.store import EmbeddingStore
from iood_helpers.scale import Network, ShardedStore, extract
from iood_helpers.scale.places import Place
from iood_helpers.scale.shards import PENDING, write_rows


@pytest.fixture(scope="module")
def small(tmp_path_factory, dataset, embedder):
    return extract(Network(), dataset[:2], embedder, tmp_path_factory.mktemp("small") / "s", progress=False, **DRAW)


@pytest.fixture
def copied(tmp_path, small):
    shutil.copytree(small.place.path, tmp_path / "copied")
    return tmp_path / "copied"


def test_memory_holds_the_same(dataset, embedder, small):
    address = "memory://here/store"
    store = extract(Network(), dataset[:2], embedder, address, progress=False, **DRAW)
    assert_same(store.load(), small.load())
    again = ShardedStore.open(address)
    assert again.is_complete and again.parameters == small.parameters and again.widths == small.widths


def test_a_bucket_holds_the_same(dataset, embedder, small, client, monkeypatch):
    """An S3 server of a package, on loopback; two workers write to it."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
        import s3fs

        s3fs.S3FileSystem(**options).mkdir("bucket")
        where = {"storage_options": options, "client": client}
        store = extract(Network(), dataset[:2], embedder, "s3://bucket/run/store", progress=False, **where, **DRAW)
        assert_same(store.load(), small.load())
        assert ShardedStore.open("s3://bucket/run/store", options).is_complete
        with pytest.raises(EmbeddingError, match="no readable embedding store"):
            ShardedStore.open("s3://bucket/run/other", options)
    finally:
        server.stop()


def test_places_that_cannot_be_reached_are_named(tmp_path, dataset, embedder):
    with pytest.raises(ScaleError, match="nowhere://x/y"):
        ShardedStore.open("nowhere://x/y")
    with pytest.raises(EmbeddingError, match="no readable embedding store"):
        ShardedStore.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file"):
        extract(Network(), dataset[:1], embedder, tmp_path / "file", progress=False, **DRAW)


@pytest.mark.parametrize("column", ["label", "confidence", "pixel", "vectors/decoder"])
def test_a_missing_chunk_is_found(column, copied, dataset):
    chunk = min(path for path in (copied / "rows.zarr" / column / "c").rglob("*") if path.is_file())
    chunk.unlink()
    with pytest.raises(EmbeddingError, match=rf"Chunks of image {dataset[0].name} are missing from {copied}"):
        ShardedStore.open(copied).load()


def test_a_damaged_chunk_is_found(copied):
    chunk = next(path for path in (copied / "rows.zarr/vectors/0/c").rglob("*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(EmbeddingError, match=r"column vectors/0 .* is damaged"):
        ShardedStore.open(copied).load()


def test_a_changed_manifest_is_found(copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["rows"][0] -= 1
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EmbeddingError, match="has changed since it was written"):
        ShardedStore.open(copied)


def test_another_store_or_version_is_refused(copied):
    store = ShardedStore.open(copied)
    with pytest.raises(EmbeddingError, match=f"{copied} has other levels"):
        ShardedStore.open_or_create(store.place, {0: 1}, store.parameters, store._images)
    store._manifest["format"] += 1
    store.commit({})
    with pytest.raises(EmbeddingError, match="of another version"):
        ShardedStore.open(copied)


def test_images_of_another_store_are_found(copied):
    images = json.loads((copied / "images.json").read_text())
    (copied / "images.json").write_text(json.dumps(images[:1]))
    with pytest.raises(EmbeddingError, match="images.json is that of another store"):
        ShardedStore.open(copied)


def test_a_skipped_image_is_left_out_of_a_copy_and_forgotten_once_it_is_done(copied, small, tmp_path):
    store, number = ShardedStore.open(copied), len(small.choose()[1][1])
    first, second = store.names
    store.commit({1: PENDING}, {1: "its worker ended"}, complete=True)
    store.commit({0: len(small.choose()[0][1])}, complete=True)
    assert ShardedStore.open(copied).skipped == {second: "its worker ended"}
    copy = store.copy_to(tmp_path / "copy")
    assert copy.names == [first] and copy.parameters["skipped"] == [second] and copy.parameters["images"] == 1
    assert_same(copy.load(), small.read(small.choose()[:1]))
    store.commit({1: number}, complete=True)
    again = ShardedStore.open(copied)
    assert again.is_complete and again.skipped == {} and again.pending == []
    assert_same(again.load(), small.load())
    store.commit({})  # as when an image has been mended: it is to be extracted again
    assert not ShardedStore.open(copied).is_complete


def test_an_image_of_all_classes_has_room(tmp_path):
    place, widths, y = Place.of(tmp_path), {0: 3}, np.repeat(np.arange(19), 2)
    store = ShardedStore.open_or_create(place, widths, {"share": 2, "per": "label"}, [{"name": "a"}, {"name": "b"}])
    rows = {"label": y, "predicted": y[::-1], "confidence": y / 20, "pixel": np.stack([y, y], 1)}
    rows["embeddings"] = np.random.default_rng(0).normal(size=(len(y), 3)).astype(np.float32)
    store.commit({index: write_rows(place, index, "a", widths, rows) for index in (0, 1)}, complete=True)
    found = store.load()
    assert found.label.tolist() == [*y, *y] and found.image.tolist() == [0] * 38 + [1] * 38
    np.testing.assert_array_equal(found.embeddings, np.concatenate([rows["embeddings"]] * 2))


def test_a_draw_of_more_than_there_is_takes_every_row(small):
    for (index, rows), (drawn, chosen) in zip(small.choose(), small.choose(10**6), strict=True):
        assert index == drawn
        np.testing.assert_array_equal(rows, chosen)


def test_a_copy_that_was_interrupted_goes_on(small, tmp_path, monkeypatch):
    plain, done = EmbeddingStore.append, []

    def append(self, name, rows):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(name)
        plain(self, name, rows)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "append", append)
        with pytest.raises(KeyboardInterrupt):
            small.copy_to(tmp_path / "copy")
    assert_same(small.copy_to(tmp_path / "copy").load(), small.load())


def test_a_level_that_is_not_there_is_named(small):
    with pytest.raises(EmbeddingError, match=r"holds levels \[0, 'decoder'\], not all of \[2\]"):
        small.load(levels=[2])
