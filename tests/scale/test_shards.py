"""Stores of shards at several addresses, and what is found to be wrong with them."""

from __future__ import annotations

import json
import shutil

import pytest
from scale_samples import DRAW, assert_same

from iood_helpers.errors import EmbeddingError, FileError, ScaleError
from iood_helpers.scale import Network, ShardedStore, extract


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
def test_a_missing_chunk_is_found(column, copied):
    chunk = next(path for path in (copied / "rows.zarr" / column / "c").rglob("*") if path.is_file())
    chunk.unlink()
    with pytest.raises(EmbeddingError, match=r"Chunks of image .* are missing"):
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


def test_a_level_that_is_not_there_is_named(small):
    with pytest.raises(EmbeddingError, match=r"holds levels \[0, 'decoder'\], not all of \[2\]"):
        small.load(levels=[2])
