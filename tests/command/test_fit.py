"""``iood fit``: what is normal, from pictures without labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from iood_helpers import load_dataset, load_segmenter
from iood_helpers.command import fit, pipeline
from iood_helpers.command.cli import main
from iood_helpers.command.sources import pictures
from iood_helpers.errors import ClusteringError
from iood_helpers.io import data_dir

SCENES = sorted((data_dir() / "mini" / "bravo" / "bravo_ACDC" / "fog").rglob("*_rgb_anon.jpg"))


@pytest.fixture(scope="module")
def segmenter():
    return load_segmenter("nano")


@pytest.fixture
def quick(segmenter, monkeypatch):
    monkeypatch.setattr(pipeline, "load_network", lambda *_, **__: segmenter)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number, path in enumerate(SCENES[:5]):
        Image.open(path).convert("RGB").crop((100, 40, 260, 168)).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def run(folder, out, *options):
    return main(
        ["fit", str(folder), "--out", str(out), "--clusters", "4", "--shared", "40", "--pixels", "200", *options]
    )


def test_learns_from_predicted_classes_and_holds_the_last_pictures_out(folder, tmp_path, quick, segmenter, capsys):
    out = tmp_path / "own.safetensors"
    assert run(folder, out) == 0
    captured = capsys.readouterr()
    statistics = pipeline.Statistics.load(out)
    predicted = [segmenter.predict(path).classes for path in sorted(folder.iterdir())]
    assert set(statistics.kmeans.centers_) <= set(np.unique(predicted[:4]))
    held_out = np.bincount(predicted[4].ravel(), minlength=19)
    assert {c for c in statistics.kmeans.quantiles_ if c >= 0} <= set(np.flatnonzero(held_out))
    assert statistics.about["pictures"] == 5 and not list(tmp_path.glob("*.part"))
    rows = {line[:16].strip(): line[16:].split() for line in captured.out.splitlines()[1:20]}
    assert rows["road"] == ["200", "200"] and "few or no pixels" in captured.err and "train" in captured.err
    assert main(["predict", str(folder / "0.png"), "--kmeans", str(out), "--out", str(tmp_path / "maps")]) == 0


def test_no_held_out_picture_is_fitted_on(folder, tmp_path, segmenter):
    stores = fit.extract(segmenter, pictures(folder), [0], tmp_path, n_per_class=10, seed=0)
    assert [store.names for store in stores] == [["0", "1", "2", "3"], ["4"]]


def test_damaged_pictures_are_left_out_or_end_it(folder, tmp_path, quick, capsys):
    (folder / "7.png").write_bytes(b"x")
    assert run(folder, tmp_path / "own.safetensors", "--stop") == 1 and not (tmp_path / "own.safetensors").exists()
    assert run(folder, tmp_path / "own.safetensors") == 1
    assert pipeline.Statistics.load(tmp_path / "own.safetensors").about["pictures"] == 5
    assert capsys.readouterr().err.count("7.png cannot be read") == 2


def test_an_interrupted_fit_goes_on(folder, tmp_path, quick, monkeypatch):
    log = tmp_path / "passes"
    monkeypatch.setenv("IOOD_PASS_LOG", str(log))
    monkeypatch.setattr(pipeline, "learn", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(folder, tmp_path / "own.safetensors") == 130 and len(log.read_text().splitlines()) == 5
    monkeypatch.undo()
    monkeypatch.setenv("IOOD_PASS_LOG", str(log))
    assert run(folder, tmp_path / "own.safetensors") == 0
    assert len(log.read_text().splitlines()) == 5 + 1  # the held-out picture again, as a whole


@pytest.mark.parametrize("levels, message", [("0,9", "no level 9"), ("x", "not understood")])
def test_levels_that_no_network_has(folder, tmp_path, quick, capsys, levels, message):
    assert run(folder, tmp_path / "own.safetensors", "--levels", levels) == 1
    assert message in capsys.readouterr().err


def test_one_picture_is_too_few(folder, tmp_path, quick, capsys):
    for path in list(folder.iterdir())[1:]:
        path.unlink()
    assert run(folder, tmp_path / "own.safetensors") == 1
    assert "holds 1 readable picture" in capsys.readouterr().err
    assert run(folder / "none", tmp_path / "own.safetensors") == 1


def test_statistics_know_their_precision(folder, tmp_path, quick, segmenter):
    assert run(folder, tmp_path / "own.safetensors") == 0
    statistics = pipeline.Statistics.load(tmp_path / "own.safetensors")
    rounded = load_segmenter("nano", precision="bfloat16")
    with pytest.raises(ClusteringError, match="another precision"):
        pipeline.Pipeline(rounded, statistics)


def test_levels_are_read():
    assert fit.levels_of("0, 2,decoder,stride8") == [0, 2, "decoder", "stride8"]


@pytest.mark.real_data
def test_efficientvit_on_photographs(real_data, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    found = [sample.image_path for sample in load_dataset("camvid/train", root=real_data, limit=6)]
    for path in found:
        (photographs / path.name).symlink_to(path)
    out, model = tmp_path / "own.safetensors", ["--model", "efficientvit-b0-cityscapes"]
    assert main(["fit", str(photographs), "--out", str(out), "--clusters", "4", "--pixels", "200", *model]) == 0
    maps = tmp_path / "maps"
    assert main(["predict", str(found[0]), "--kmeans", str(out), "--out", str(maps), *model]) == 0
    assert (maps / "index.html").is_file()
