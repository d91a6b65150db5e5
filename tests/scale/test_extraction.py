"""Extraction by several processes gives the store that one process makes, whatever happens to them."""

from __future__ import annotations

import multiprocessing
import time

import numpy as np
import pytest
from scale_samples import DRAW, LEVELS, Counted, Deadly, assert_same, replaced

from iood_helpers import PixelEmbedder
from iood_helpers.datasets.samples import Dataset, Sample
from iood_helpers.errors import DatasetError, EmbeddingError, LockedError, ScaleError
from iood_helpers.scale import Network, ShardedStore, clients, extract, extraction


def test_one_process_gives_the_same_rows(tmp_path, dataset, embedder, single, monkeypatch):
    monkeypatch.setattr(extraction, "BLOCK", 2)
    store = extract(Network(), dataset, embedder, tmp_path / "store", progress=False, **DRAW)
    assert store.is_complete and len(store) == len(single) and store.names == single.names
    assert_same(store.load(), single.load())
    assert_same(store.load(50, seed=7, levels=["decoder"]), single.load(50, seed=7, levels=["decoder"]))


def test_projected_vectors_are_loaded_by_the_levels_they_are_made_of(tmp_path, dataset):
    projected = PixelEmbedder(LEVELS, projection="random", dim=8)
    store = extract(Network(), dataset[:1], projected, tmp_path, progress=False, n_per_class=20)
    assert store.widths == {"projected": 8}
    np.testing.assert_array_equal(store.load(levels=LEVELS).embeddings, store.load().embeddings)
    with pytest.raises(EmbeddingError, match="not all of"):
        store.load(levels=[0])


def test_two_workers_give_the_same_rows_and_the_same_store(tmp_path, dataset, embedder, single, client):
    store = extract(Network(), dataset, embedder, tmp_path / "store", client=client, progress=False, **DRAW)
    assert_same(store.load(), single.load())
    copy = store.copy_to(tmp_path / "copy")
    assert (copy.path / "progress.json").read_bytes() == (single.path / "progress.json").read_bytes()
    assert_same(copy.load(30, seed=1), single.load(30, seed=1))


def test_each_worker_reads_the_weights_once(client):
    clients.load_everywhere(client, Network())
    built = client.run(lambda: id(clients._HERE[Network()]))
    clients.load_everywhere(client, Network())
    assert len(built) >= 2 and client.run(lambda: id(clients._HERE[Network()])) == built


def test_a_worker_that_ends_loses_nothing(tmp_path, dataset, embedder, single, client):
    deadly = replaced(dataset, [1], Deadly, remembers=tmp_path / "once")
    where = embedder, tmp_path / "store"
    store = extract(Network(), deadly, *where, client=client, on_error="skip", progress=False, **DRAW)
    assert (tmp_path / "once").exists() and store.skipped == {} and store.is_complete
    assert_same(store.load(), single.load())


def test_a_damaged_image_stops_or_is_skipped_and_can_be_mended(tmp_path, dataset, embedder, single):
    path = tmp_path / "image.png"
    path.write_bytes(dataset[2].image_path.read_bytes()[:5000])
    samples = list(replaced(dataset, [0, 1, 2, 3, 4], Counted, log=tmp_path / "log"))
    known = vars(samples[2]) | {"image_path": path}
    samples[2] = Counted(**known)
    damaged = Dataset(dataset.name, dataset.split, dataset.root, samples)
    where = embedder, tmp_path / "store"
    with pytest.raises(DatasetError, match=r"image.png"):
        extract(Network(), damaged, *where, progress=False, **DRAW)
    assert ShardedStore.open(where[1]).pending == [2, 3, 4]
    with pytest.raises(EmbeddingError, match="lacks 3 images"):
        ShardedStore.open(where[1]).copy_to(tmp_path / "copy")
    store = extract(Network(), damaged, *where, on_error="skip", progress=False, **DRAW)
    assert list(store.skipped) == [dataset[2].name] and store.is_complete
    extract(Network(), damaged, *where, on_error="skip", progress=False, **DRAW)  # it is not tried again
    path.write_bytes(dataset[2].image_path.read_bytes())
    store = extract(Network(), damaged, *where, on_error="skip", progress=False, **DRAW)
    assert_same(store.load(), single.load())
    ShardedStore.open(where[1]).commit({})  # as if killed before it was marked as complete
    assert extract(Network(), damaged, *where, progress=False, **DRAW).is_complete  # and the mended one is known
    log = (tmp_path / "log").read_text().split()
    assert sorted(log) == sorted([*dataset_names(dataset), *[dataset[2].name] * 2])  # nothing is done twice but it


def dataset_names(dataset):
    return [sample.name for sample in dataset]


def doomed(dataset, embedder, path):
    """Extract in a process with a scheduler and a worker of its own; everything is counted at once."""
    from distributed import LocalCluster

    extraction.SECONDS_BETWEEN_COMMITS = 0
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        extract(Network(), dataset, embedder, path, client=cluster, in_flight=1, progress=False, **DRAW)


def test_a_run_killed_with_its_scheduler_goes_on(tmp_path, dataset, embedder, single, client):
    path = tmp_path / "store"
    process = multiprocessing.get_context("spawn").Process(target=doomed, args=(dataset, embedder, path))
    process.start()
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.is_alive():
            if (path / "manifest.json").exists() and len(ShardedStore.open(path)):
                break
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    before = ShardedStore.open(path)
    assert 0 < len(before.pending) < len(dataset)
    counted = replaced(dataset, list(range(5)), Counted, log=tmp_path / "log")
    store = extract(Network(), counted, embedder, path, client=client, progress=False, **DRAW)
    assert_same(store.load(), single.load())
    assert sorted((tmp_path / "log").read_text().split()) == sorted(dataset[i].name for i in before.pending)


def test_other_parameters_and_other_images_are_refused(tmp_path, dataset, embedder):
    few = dataset[:2]
    extract(Network(), few, embedder, tmp_path, progress=False, n_per_class=20)
    with pytest.raises(EmbeddingError, match="other parameters"):
        extract(Network(), few, embedder, tmp_path, progress=False, n_per_class=21)
    other = Sample(**{**vars(few[0]), "label_path": None})
    changed = Dataset(few.name, few.split, few.root, [other, few[1]])
    with pytest.raises(EmbeddingError, match=f"{few[0].name} has changed"):
        extract(Network(), changed, embedder, tmp_path, progress=False, n_per_class=20)
    renamed = Dataset(few.name, few.split, few.root, [few[1], few[0]])
    with pytest.raises(EmbeddingError, match="other images"):
        extract(Network(), renamed, embedder, tmp_path, progress=False, n_per_class=20)


def test_two_runs_do_not_meet_in_one_folder(tmp_path, dataset, embedder):
    from iood_helpers.scale.places import Place

    with Place.of(tmp_path).claimed(), pytest.raises(LockedError, match="in use"):
        extract(Network(), dataset, embedder, tmp_path, progress=False, **DRAW)


def test_impossible_wishes_are_named(tmp_path, dataset, embedder):
    with pytest.raises(ScaleError, match="'stop' or 'skip'"):
        extract(Network(), dataset, embedder, tmp_path, on_error="retry", progress=False, **DRAW)
    with pytest.raises(ScaleError, match="in_flight=0"):
        extract(Network(), dataset, embedder, tmp_path, in_flight=0, progress=False, **DRAW)
