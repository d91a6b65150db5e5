"""EfficientViT computes what the authors' code computes, and is found by name and by its weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import GOLDEN
from mmseg.registry import MODELS
from random_weights import random_state

from iood_helpers import load_dataset, load_segmenter
from iood_helpers.bravo.accumulator import BravoAccumulator, per_class_iou
from iood_helpers.errors import CheckpointError
from iood_helpers.model import checkpoints, efficientvit_zoo
from iood_helpers.model.efficientvit import EfficientViT, LiteMLA
from iood_helpers.model.efficientvit_zoo import SIZES, mmseg_names, model_config

NAME = "efficientvit-b0-cityscapes"
PARAMETERS = {"efficientvit-b0": 706_691, "efficientvit-b1": 4_803_443}
PLACE = "efficientvit_b0/efficientvit_seg_b0_cityscapes.pt"
IMAGE = np.random.RandomState(1).randint(0, 256, (96, 160, 3)).astype(np.uint8)


def manifest(size):
    return json.loads((GOLDEN / "efficientvit" / f"manifest_{size.removeprefix('efficientvit-')}.json").read_text())


def write_weights(path, size="efficientvit-b0"):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": random_state(manifest(size))}, path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "b0.pt")


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    monkeypatch.setenv("IOOD_DATA", str(tmp_path))
    monkeypatch.setenv("IOOD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(checkpoints.OFFICIAL, NAME, "http://127.0.0.1:9/weights.pt")  # where nobody answers
    return tmp_path


def assert_same(prediction, whose):
    """Maps equal the authors' answers to 2e-5 of their largest number; but for logits, every fourth cell is known."""
    answers = np.load(GOLDEN / "efficientvit" / "answers.npz")
    sampled = {**dict(enumerate(prediction.features)), "decoder": prediction.decoder}
    found = {level: values[:, ::4, ::4] for level, values in sampled.items()} | {"logits": prediction.logits}
    for level, values in found.items():
        wanted = answers[f"{whose}_{level}"]
        np.testing.assert_allclose(values, wanted, rtol=0, atol=2e-5 * abs(wanted).max(), err_msg=str(level))


@pytest.mark.parametrize("size", SIZES)
def test_official_names_and_shapes(size):
    with torch.device("meta"):
        model = MODELS.build(model_config(size))
        official = mmseg_names({name: torch.empty(shape) for name, shape in manifest(size).items()})
    shapes = lambda state: {name: tensor.shape for name, tensor in state.items()}
    assert shapes(model.state_dict()) == shapes(official)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[size]


@pytest.mark.parametrize("size", SIZES)
def test_answers_of_the_official_code_to_random_weights(size, tmp_path):
    segmenter = load_segmenter(write_weights(tmp_path / "weights.pt", size))
    assert segmenter.info["size"] == size and segmenter.info["head_rows"] == 19
    prediction = segmenter.predict(IMAGE)
    assert_same(prediction, f"random_{size.removeprefix('efficientvit-')}")
    assert [f.shape[1:] for f in prediction.features] == [(24, 40), (12, 20), (6, 10), (3, 5)]
    assert prediction.logits.shape == (19, 12, 20)


def test_attention_is_the_quadratic_one_in_another_order():
    torch.manual_seed(0)
    qkv = torch.randn(2, 3 * 48, 5, 7)
    q, k, v = qkv.reshape(2, 3, 48, 35).split(16, 2)
    weights = q.relu().transpose(2, 3) @ k.relu()
    wanted = v @ (weights / weights.sum(3, keepdim=True)).transpose(2, 3)
    torch.testing.assert_close(LiteMLA._attend(qkv), wanted.reshape(2, -1, 5, 7), rtol=1e-4, atol=1e-5)


def test_an_image_of_other_sides_is_enlarged():
    torch.manual_seed(0)
    backbone = EfficientViT().eval()
    x = torch.randn(1, 3, 90, 129)
    with torch.inference_mode():
        found = backbone(x)
        wanted = backbone(F.interpolate(x, (96, 160), mode="bilinear", align_corners=False))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = MODELS.build(model_config("efficientvit-b0")).train()
    model.decode_head(model.extract_feat(torch.randn(2, 3, 64, 64))).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_under_autocast_attention_sums_in_float32():
    torch.manual_seed(0)
    qkv = torch.randn(1, 48, 20, 30)
    exact = LiteMLA._attend(qkv)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(LiteMLA._attend(qkv), exact)


def test_weights_of_an_mmseg_config(path):
    """With a config, mmseg's own prediction is compared with ours while loading."""
    by_config = load_segmenter(model_config("efficientvit-b0"), path).predict(IMAGE)
    np.testing.assert_allclose(by_config.confidence, load_segmenter(path).predict(IMAGE).confidence, atol=1e-5)


def test_names_of_mmseg_stay(path, tmp_path):
    state = load_segmenter(path).model.state_dict()
    torch.save({"state_dict": state}, tmp_path / "ours.pth")
    assert load_segmenter(tmp_path / "ours.pth").info["size"] == "efficientvit-b0"
    torch.save({"state_dict": state | random_state(manifest("efficientvit-b0"))}, tmp_path / "both.pth")
    with pytest.raises(CheckpointError, match=r"both\.pth does not fit.* unexpected \(head\."):
        load_segmenter(tmp_path / "both.pth")


def test_the_file_below_the_data_root_comes_first(data_root, monkeypatch):
    file = write_weights(data_root / PLACE)
    monkeypatch.setitem(checkpoints.SHA256, NAME, checkpoints.file_sha256(file))
    assert load_segmenter(NAME).checkpoint.path == file


def test_weights_other_than_the_authors_are_refused_and_kept(data_root):
    file = write_weights(data_root / PLACE)
    with pytest.raises(CheckpointError, match=r"cityscapes\.pt has the checksum .* instead of 923d6fdd"):
        load_segmenter(NAME)
    file.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CheckpointError, match=r"cityscapes\.pt is damaged"):
        load_segmenter(NAME)
    assert file.is_file()


@pytest.mark.parametrize("root", ["data", ""])
def test_without_the_file_the_public_one_is_asked_for(root, data_root, monkeypatch):
    monkeypatch.setenv("IOOD_DATA", root)
    with pytest.raises(CheckpointError, match="weights.pt could not be downloaded .*put it at .*cache"):
        load_segmenter(NAME)


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda state: state.pop("head.output_ops.0.op_list.1.conv.weight"), "not an InternImage"),
        (lambda state: state.pop("backbone.stages.3.op_list.2.local_module.main.depth_conv.conv.bias"), "1 missing"),
        (lambda state: state.update({"backbone.stages.0.op_list.2.main.x": torch.ones(1)}), "1 unexpected"),
        (lambda state: state.update({"backbone.input_stem.op_list.0.conv.weight": torch.ones(24, 3, 3, 3)}), "not an"),
    ],
)
def test_weights_of_another_network(change, match, tmp_path):
    state = random_state(manifest("efficientvit-b0"))
    change(state)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=match):
        load_segmenter(tmp_path / "other.pt")


def test_every_size_has_a_name_and_a_public_file():
    assert [name.removesuffix("-cityscapes") for name in efficientvit_zoo.URLS] == list(SIZES)
    assert set(efficientvit_zoo.URLS) <= set(checkpoints.known_checkpoints())
    assert efficientvit_zoo.URLS[NAME].endswith(f"han-cai/efficientvit-seg/{PLACE.split('/')[1]}")


@pytest.fixture(scope="module")
def authors():
    """Segmenter with the authors' weights."""
    if efficientvit_zoo.below_data_root(NAME) is None:
        pytest.skip(f"IOOD_DATA names no folder that holds {PLACE}")
    return load_segmenter(NAME)


@pytest.mark.real_data
def test_answers_of_the_official_code_to_the_authors_weights(authors):
    assert_same(authors.predict(load_dataset("mini/val")[0].image()), "cityscapes_b0")


@pytest.mark.real_data
def test_bfloat16_says_nearly_the_same_where_the_network_is_at_home(authors, real_data):
    """0.995 here; on scenes unlike Cityscapes down to 0.85, since the first layers cannot bear the rounding."""
    (sample,) = load_dataset("cityscapes/val", root=real_data, limit=1)
    a, b = authors.predict(sample.image()), load_segmenter(NAME, precision="bfloat16").predict(sample.image())
    assert all(values.dtype == np.float32 for values in (*b.features, b.decoder, b.logits))
    assert 0.99 < (a.classes == b.classes).mean() < 1


@pytest.mark.real_data
def test_quality_on_cityscapes(authors, real_data):
    """Measured on the eight training images and the one of val that the folder holds: 0.662 and 0.973."""
    samples = [s for split in ("train", "val") for s in load_dataset(f"cityscapes/{split}", root=real_data, limit=8)]
    if [sample.name.split("/")[0] for sample in samples] != 8 * ["aachen"] + ["frankfurt"]:
        pytest.skip("the numbers are those of eight images of aachen and one of frankfurt")
    seen = BravoAccumulator()
    for sample in samples:
        prediction = authors.predict(sample.image())
        seen.update(sample.label(), None, prediction.classes, prediction.confidence)
    assert np.nanmean(per_class_iou(seen.confusion)) == pytest.approx(0.662, abs=0.005)
    assert np.trace(seen.confusion) / seen.confusion.sum() == pytest.approx(0.973, abs=0.001)
