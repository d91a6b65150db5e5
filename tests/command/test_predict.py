"""``iood predict``: the maps are those of the method, and an interrupted run loses nothing and does nothing twice."""

from __future__ import annotations

import html.parser
import json
import shutil
from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from iood_helpers import load_dataset, refine_confidence
from iood_helpers.command import page, pipeline, sources
from iood_helpers.command.cli import main
from iood_helpers.command.images import ENDINGS, NOVELTY_UNIT
from iood_helpers.command.options import PRECISIONS
from iood_helpers.errors import ClusteringError, DatasetError
from iood_helpers.io import data_dir
from iood_helpers.method.refinement import Distances, upsample
from iood_helpers.model import precision

SCENE = data_dir() / "mini" / "bravo" / "bravo_SMIYC" / "mini" / "mini_000001.jpg"


@pytest.fixture(scope="module")
def loaded():
    return pipeline.Pipeline.load("nano")


@pytest.fixture
def quick(loaded, monkeypatch):
    """The network is loaded once."""
    monkeypatch.setattr(pipeline, "load_network", lambda *_, **__: loaded.segmenter)


@pytest.fixture
def passes(tmp_path, monkeypatch):
    """How many images went through the network."""
    log = tmp_path / "passes"
    monkeypatch.setenv("IOOD_PASS_LOG", str(log))
    return lambda: len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def folder(tmp_path):
    """Three small pictures, one of them with a name that HTML would misread, and one that is damaged."""
    scene = Image.open(SCENE).convert("RGB")
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    for name, left in (("a", 0), ("b", 60), ("sub/<c> & d", 120)):
        scene.crop((left, 60, left + 96, 124)).save(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "pictures" / "bad.jpg").write_bytes(SCENE.read_bytes()[:3000])
    return tmp_path / "pictures"


def predict(folder, out, *options):
    return main(["predict", str(folder), "--out", str(out), *options])


def names(out):
    return [json.loads(line)["name"] for line in (out / "predictions.jsonl").read_text().splitlines()[1:]]


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.images, self.text = [], ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "iframe")
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_data(self, data):
        self.text += data


def test_files_hold_what_the_method_gives(folder, tmp_path, quick, loaded, capsys):
    out = tmp_path / "out"
    assert predict(folder, out) == 1  # one is damaged
    assert names(out) == ["a", "b", "sub/<c> & d"] and "bad.jpg cannot be read" in capsys.readouterr().err
    assert not list(out.rglob("*.tmp*"))
    picture = np.array(Image.open(folder / "b.png"))
    prediction = loaded.segmenter.predict(picture)
    statistics = loaded.statistics
    maps = {name: Image.open(out / f"b{ENDINGS[name]}") for name in ("classes", "confidence", "novelty")}
    assert maps["classes"].mode == "P" and np.array_equal(maps["classes"], prediction.classes)
    confidence, _ = refine_confidence(prediction, statistics.kmeans, statistics.embedder, pipeline.RULE)
    assert np.abs(np.array(maps["confidence"]) / 65535 - confidence).max() < 1e-5
    usual = statistics.kmeans.statistics_
    far = Distances(prediction, statistics.kmeans, statistics.embedder).averaged()
    far = (far - usual.mean) / (norm.isf(0.01) * usual.std)  # above 1: one calibration cell in a hundred
    novelty = upsample(np.maximum(far, 0), prediction.shape)
    assert np.abs(np.array(maps["novelty"]) / NOVELTY_UNIT - novelty.clip(0, 65535 / NOVELTY_UNIT)).max() < 1e-3


def test_the_page_stands_alone(folder, tmp_path, quick):
    predict(folder, tmp_path / "out")
    shown = Page(tmp_path / "out" / "index.html")
    assert len(shown.images) == 6 and "sub/<c> & d" in shown.text and "3 pictures" in shown.text
    assert all(image["src"].startswith("data:image/jpeg;base64,") and len(image["alt"]) > 30 for image in shown.images)
    text = (tmp_path / "out" / "index.html").read_text()
    assert "prefers-color-scheme:dark" in text and "http" not in text.replace("http-equiv", "")


def test_of_many_pictures_those_with_most_unknown_are_shown(folder, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(page, "SHOWN", 1)
    predict(folder, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[1:]]
    shown = Page(tmp_path / "out" / "index.html")
    assert len(shown.images) == 2 and max(lines, key=lambda line: line["unknown"])["name"] in shown.images[0]["alt"]


def test_only_what_is_missing_or_changed_is_done_again(folder, tmp_path, quick, passes, capsys):
    out = tmp_path / "out"
    (folder / "bad.jpg").unlink()
    assert predict(folder, out) == 0 and passes() == 3
    assert predict(folder, out) == 0 and passes() == 3
    (out / "a_novelty.png").unlink()
    shutil.copy(folder / "a.png", folder / "b.png")
    assert predict(folder, out) == 0 and passes() == 5
    assert Image.open(out / "b_classes.png").tobytes() == Image.open(out / "a_classes.png").tobytes()
    assert predict(folder, out, "--max-side", "90") == 1
    assert "made with another max_side" in capsys.readouterr().err and passes() == 5


def test_an_interrupted_run_goes_on(folder, tmp_path, quick, passes, monkeypatch):
    out, look = tmp_path / "out", pipeline.Pipeline.look
    (folder / "bad.jpg").unlink()

    def interrupted(self, picture):
        if passes() == 2:
            raise KeyboardInterrupt
        return look(self, picture)

    monkeypatch.setattr(pipeline.Pipeline, "look", interrupted)
    assert predict(folder, out) == 130
    assert names(out) == ["a", "b"] and len(Page(out / "index.html").images) == 4
    monkeypatch.setattr(pipeline.Pipeline, "look", look)
    with (out / "predictions.jsonl").open("a") as stream:
        stream.write('{"name": "half')
    assert predict(folder, out) == 0 and passes() == 3
    assert names(out) == ["a", "b", "sub/<c> & d"]


def test_the_page_grows_while_pictures_come_in(folder, tmp_path, quick, monkeypatch):
    out, look, seen = tmp_path / "out", pipeline.Pipeline.look, []
    (folder / "bad.jpg").unlink()

    def watched(self, picture):
        seen.append(len(Page(out / "index.html").images) if (out / "index.html").exists() else None)
        return look(self, picture)

    monkeypatch.setattr(pipeline.Pipeline, "look", watched)
    monkeypatch.setattr("iood_helpers.command.predict.SECONDS_BETWEEN_PAGES", 0)
    assert predict(folder, out) == 0
    assert seen == [None, 2, 4] and len(Page(out / "index.html").images) == 6


def test_the_user_may_stop_at_the_first_damage(folder, tmp_path, quick, capsys):
    shutil.move(folder / "bad.jpg", folder / "aa.jpg")
    assert predict(folder, tmp_path / "out", "--stop") == 1
    assert names(tmp_path / "out") == ["a"] and capsys.readouterr().err.count("aa.jpg cannot be read") == 1


def test_maps_inside_of_the_folder_are_no_pictures(folder, quick, passes):
    (folder / "bad.jpg").unlink()
    assert predict(folder, folder / "maps") == 0 and predict(folder, folder / "maps") == 0
    assert passes() == 3


def test_the_shipped_statistics_see_the_unknown(loaded):
    """Of the pixels of unknown objects many more look unknown than of the others."""
    inside, outside = [], []
    for sample in load_dataset("mini/SMIYC", limit=4):
        unknown, mask = loaded.look(sample.image()).unknown, sample.invalid()
        inside.append(unknown[mask])
        outside.append(unknown[~mask])
    shares = np.concatenate(inside).mean(), np.concatenate(outside).mean()
    assert shares[0] > 0.4 and shares[1] < 0.1, shares
    assert pipeline.default_statistics("nano").stat().st_size < 1_000_000


# videos and cameras


@pytest.fixture
def video(tmp_path):
    scene = cv2.imread(str(SCENE))
    writer = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for left in range(0, 80, 10):
        writer.write(scene[60:124, left : left + 96])
    writer.release()
    return tmp_path / "drive.avi"


def test_a_video_is_read_frame_by_frame(video, tmp_path, quick, passes):
    out = tmp_path / "out"
    assert predict(video, out, "--every", "3", "--limit", "2") == 0
    assert names(out) == ["drive_000000", "drive_000003"] and passes() == 2
    assert predict(video, out, "--every", "3") == 0 and passes() == 3
    assert names(out)[-1] == "drive_000006"
    items = sources.open_source(str(video)).items
    frame = next(items).read()
    assert np.abs(frame.astype(int) - cv2.imread(str(SCENE))[60:124, :96, ::-1]).mean() < 5  # RGB, not BGR


def test_damaged_videos_are_told(video, tmp_path, quick, capsys):
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    assert predict(video, tmp_path / "out") == 1
    video.write_bytes(b"no video")
    assert predict(video, tmp_path / "none") == 1
    assert "drive.avi cannot be opened" in capsys.readouterr().err and not (tmp_path / "none" / "index.html").exists()


@pytest.mark.parametrize("name", ["camera:x", "nothing", "file.txt", "empty"])
def test_what_is_no_source_is_named(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=name):
        sources.open_source(name)


# pictures as cameras write them


def test_pictures_are_upright_and_not_too_large(tmp_path):
    scene = Image.open(SCENE).convert("RGB")
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    scene.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    (item,) = sources.open_source(str(tmp_path), max_side=192).items
    assert item.read().shape == (192, 96, 3)
    turned = np.array(scene.rotate(-90, expand=True).resize((96, 192)))
    assert np.abs(item.read().astype(int) - turned).mean() < 6


def test_files_of_one_name_are_two(tmp_path):
    for name in ("x.png", "x.jpg", "y.jpg"):
        Image.open(SCENE).convert("RGB").save(tmp_path / name)
    assert [item.name for item in sources.open_source(str(tmp_path)).items] == ["x.jpg", "x.png", "y"]


# statistics


def test_statistics_belong_to_a_network(loaded, tmp_path, capsys):
    assert predict(SCENE, tmp_path / "out", "--model", "nano-camvid") == 1
    assert "iood fit FOLDER --model nano-camvid" in capsys.readouterr().err
    about = {**loaded.statistics.about, "checkpoint": "0" * 64}
    with pytest.raises(ClusteringError, match="another checkpoint than that of nano.pth"):
        pipeline.Pipeline(loaded.segmenter, replace(loaded.statistics, about=about))


def test_auto_is_the_precision_of_the_statistics(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "is_bfloat16_faster", lambda: True)
    assert pipeline.Pipeline.load("nano", device="cpu", precision="auto").segmenter.precision == "float32"
    file = replace(loaded.statistics, about={"bound": 5.0}).save(tmp_path / "silent.safetensors")
    assert pipeline.Pipeline.load("nano", str(file), device="cpu", precision="auto").segmenter.precision == "bfloat16"
    assert get_args(precision.Choice) == PRECISIONS


def test_statistics_of_a_run_folder_are_read(loaded, tmp_path):
    loaded.statistics.kmeans.save(tmp_path / "kmeans.safetensors")
    loaded.statistics.embedder.save(tmp_path / "embedder.safetensors")
    found = pipeline.Statistics.load(tmp_path / "kmeans.safetensors")
    picture = np.array(Image.open(SCENE).convert("RGB"))[:64, :96]
    looks = [pipeline.Pipeline(loaded.segmenter, statistics).look(picture) for statistics in (found, loaded.statistics)]
    assert np.array_equal(looks[0].novelty, looks[1].novelty)  # the same way, on the same machine


def test_damaged_statistics_are_named(tmp_path):
    whole = bytearray(pipeline.default_statistics("nano").read_bytes())
    whole[-100] ^= 1
    for content in (b"", bytes(whole), bytes(whole[:5000])):
        (tmp_path / "s.safetensors").write_bytes(content)
        with pytest.raises(ClusteringError, match=r"s\.safetensors holds no statistics"):
            pipeline.Statistics.load(tmp_path / "s.safetensors")
    with pytest.raises(ClusteringError, match="holds no statistics"):
        pipeline.Statistics.load(data_dir() / "checkpoints" / "nano.pth")
