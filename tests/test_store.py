"""The store keeps what was put in, resumes, and refuses to mix."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_prediction

from iood_helpers.embeddings import ALL_LEVELS, PixelEmbedder
from iood_helpers.errors import EmbeddingError
from iood_helpers.store import EmbeddingStore, extract_embeddings


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
        np.testing.assert_array_equal(vector[0], rows.embeddings[i])


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
    assert len(EmbeddingStore.open(tmp_path / "parts").names) == 2
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
    assert extract(tmp_path / "one", embedder=PixelEmbedder((0, 1), "random", dim=5)).widths == {"projected": 5}
