"""What earlier notebooks leave is opened when it is asked for, and its absence is explained."""

from __future__ import annotations

import numpy as np
import pytest

from iood_helpers import ClassKMeans, PixelEmbedder
from iood_helpers.course import load_run
from iood_helpers.errors import ArtifactError


def test_a_run_opens_what_is_there(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    ClassKMeans(2).fit(vectors, np.repeat([0, 1], 30)).save(tmp_path / "kmeans.safetensors")
    PixelEmbedder((0,), standardize=True).fit(vectors).save(tmp_path / "embedder.safetensors")
    run = load_run(tmp_path)
    assert run.folder == tmp_path
    assert sorted(run.kmeans.centers_) == [0, 1] and run.kmeans is run.kmeans
    np.testing.assert_array_equal(run.embedder.apply(vectors).std(0).round(3), 1)


def test_clusters_that_leave_images_out_are_those_of_the_last_fit(tmp_path):
    vectors, images = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    kmeans, run = ClassKMeans(2, n_init=1).fit(vectors, np.repeat([0, 1], 30)), load_run(tmp_path)
    run.save_clusters(kmeans, kmeans.leaving_out(vectors, np.repeat([0, 1], 30), images))
    assert sorted(run.left_out) == [0, 1, 2] and sorted(run.left_out[1].centers_) == [0, 1]
    run.save_clusters(kmeans, {})
    assert run.left_out == {} and sorted(load_run(tmp_path).kmeans.centers_) == [0, 1]


@pytest.mark.parametrize(
    "what, notebook",
    [("embedder", "02"), ("embeddings", "02"), ("calibration", "02"), ("kmeans", "04"), ("predictions", "05")],
)
def test_what_is_missing_is_named_with_the_notebook_that_makes_it(tmp_path, what, notebook):
    run = load_run(tmp_path / "new")
    assert run.folder.is_dir()
    with pytest.raises(ArtifactError, match=f"{what}.* is missing; .*--only {notebook}"):
        getattr(run, what)
