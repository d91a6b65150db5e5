"""Checkpoints are read safely, fit strictly, and predict what mmseg predicts."""

from __future__ import annotations

import os
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from safetensors.torch import save_file

from iood_helpers.datasets import load_dataset
from iood_helpers.errors import CheckpointError, DatasetError, ParameterError
from iood_helpers.model.checkpoints import guess_size, known_checkpoints, load_checkpoint, load_strictly
from iood_helpers.model.fast import uper_head
from iood_helpers.model.segmenter import load_segmenter
from iood_helpers.model.sizes import MEAN, STD, model_config


def random_model(num_classes=19, size="nano"):
    torch.manual_seed(0)
    model = MODELS.build(model_config(size, num_classes=num_classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "random.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {"epoch": 3}}, path)
    return path


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8)


def test_prediction_has_the_stated_shapes_and_ranges(path, image):
    prediction = load_segmenter(path).predict(image)
    assert prediction.shape == (70, 101)
    assert prediction.classes.dtype == np.uint8 and prediction.classes.max() < 19
    assert prediction.confidence.dtype == np.float32
    assert prediction.confidence.min() >= 1 / 19 and prediction.confidence.max() <= 1
    assert prediction.logits.shape == (19, 18, 26)
    assert [f.shape for f in prediction.features] == [(24, 18, 26), (48, 9, 13), (96, 5, 7), (192, 3, 4)]
    assert prediction.decoder.shape == (48, 18, 26)


def test_prediction_equals_the_plain_mmseg_model(model, path, image):
    prediction = load_segmenter(path).predict(image)
    x = ((torch.from_numpy(image).float() - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = model.decode_head(model.extract_feat(x))
        probabilities = F.interpolate(logits, (70, 101), mode="bilinear", align_corners=False).softmax(1)[0]
        from_decoder = F.conv2d(torch.from_numpy(prediction.decoder)[None], *model.decode_head.conv_seg.parameters())
    np.testing.assert_allclose(prediction.confidence, probabilities.max(0).values.numpy(), atol=1e-5)
    assert (prediction.classes == probabilities.argmax(0).numpy()).mean() > 0.999
    np.testing.assert_allclose(prediction.logits, from_decoder[0].numpy(), atol=1e-4)


def test_array_path_and_pil_image_give_the_same(path, image, tmp_path):
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "image.png")
    segmenter = load_segmenter(path)
    wanted = segmenter.predict(image)
    for source in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(image)):
        np.testing.assert_allclose(segmenter.predict(source).confidence, wanted.confidence, atol=1e-5)


def test_too_small_image(path):
    with pytest.raises(DatasetError):
        load_segmenter(path).predict(np.zeros((20, 64, 3), np.uint8))


def test_a_head_with_150_rows_is_sliced_before_the_softmax(tmp_path, image):
    torch.save({"state_dict": random_model(150).state_dict()}, tmp_path / "rows.pth")
    with pytest.warns(UserWarning, match="150 rows"):
        sliced = load_segmenter(tmp_path / "rows.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full = load_segmenter(tmp_path / "rows.pth", head="full")
    a, b = sliced.predict(image), full.predict(image)
    assert a.logits.shape[0] == b.logits.shape[0] == 19 and b.classes.max() < 19
    assert sliced.info["head_rows"] == 150
    assert (a.classes != b.classes).mean() < 1e-3  # two ways to the same order
    assert (b.confidence < a.confidence).all()  # 131 further rows take their share


def test_fewer_rows_than_classes_are_refused(tmp_path):
    torch.save({"state_dict": random_model(11).state_dict()}, tmp_path / "few.pth")
    with pytest.raises(CheckpointError, match=r"few\.pth has 11 classes"):
        load_segmenter(tmp_path / "few.pth")


@pytest.mark.parametrize("key", ["state_dict", "state_dict_ema", "model", None])
def test_layouts_of_checkpoints(model, tmp_path, key):
    state = {f"module.{k}" if key == "model" else k: v for k, v in model.state_dict().items()}
    torch.save({key: state} if key else state, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth")
    assert (loaded.size, loaded.num_classes, len(loaded.sha256)) == ("nano", 19, 64)


def test_safetensors(model, tmp_path, path, image):
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "x.safetensors")
    a, b = load_segmenter(tmp_path / "x.safetensors"), load_segmenter(path)
    for name, tensor in b.model.state_dict().items():
        assert torch.equal(a.model.state_dict()[name], tensor), name  # the same bits on disk are the same bits here
    # Weights in a mapped file lie at other addresses, where another kernel may sum in another order.
    np.testing.assert_allclose(a.predict(image).confidence, b.predict(image).confidence, atol=1e-4)


def test_weights_are_in_memory_once(path):
    segmenter, loaded = load_segmenter(path), load_checkpoint(path)
    assert segmenter.checkpoint.state_dict == {}
    assert not any(t.is_meta for t in (*segmenter.model.parameters(), *segmenter.model.buffers()))
    load_strictly(segmenter.model, loaded)
    for name, tensor in segmenter.model.state_dict().items():
        assert tensor.data_ptr() == loaded.state_dict[name].data_ptr(), name


def test_weights_stored_in_16_bits_are_used_in_32(model, tmp_path, image):
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}, tmp_path / "h.pth")
    segmenter = load_segmenter(tmp_path / "h.pth")
    assert all(p.dtype == torch.float32 for p in segmenter.model.parameters())
    assert segmenter.predict(image).confidence.dtype == np.float32


def test_config_and_checkpoint(path, image, tmp_path):
    from mmengine.config import Config

    config = model_config("nano", num_classes=150)  # rows are read from the weights
    config["pretrained"] = "somewhere"
    Config({"model": config}).dump(tmp_path / "config.py")
    wanted = load_segmenter(path).predict(image)
    for source in (config, tmp_path / "config.py"):
        assert (load_segmenter(source, path).predict(image).classes != wanted.classes).mean() < 1e-3


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_checkpoint_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Malicious()}, "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError, match=r"bad\.pth .*could execute code"):
        load_segmenter(tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"plain\.pth"):
        load_segmenter(tmp_path / "plain.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files(path, tmp_path, suffix):
    whole = path.read_bytes()
    for name, content in {"half": whole[: len(whole) // 2], "noise": b"no checkpoint" * 99, "empty": b""}.items():
        damaged = tmp_path / f"{name}{suffix}"
        damaged.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name}{suffix} is damaged"):
            load_checkpoint(damaged)


def test_weights_that_do_not_fit_are_named(model, path, tmp_path):
    state = dict(model.state_dict())
    state["surplus.weight"] = state.pop("decode_head.conv_seg.bias")
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"1 missing \(decode_head.conv_seg.bias\); 1 unexpected \(surplus"):
        load_segmenter(tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="looks like size 'nano'"):
        load_segmenter(model_config("t"), path)


def test_not_a_segmenter(tmp_path):
    torch.save({"state_dict": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not an InternImage"):
        load_segmenter(tmp_path / "other.pth")
    torch.save({"state_dict": {}}, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        load_checkpoint(tmp_path / "none.pth")


def test_unknown_names_list_the_known_ones():
    with pytest.raises(CheckpointError, match="nano, nano-camvid, internimage-t-cityscapes"):
        load_segmenter("nanoo")
    assert "internimage-xl-cityscapes" in known_checkpoints()


@pytest.mark.parametrize("size", ["nano", "t", "s", "b", "l", "xl"])
def test_size_is_told_from_the_weights(size):
    with torch.device("meta"):
        state = MODELS.build(model_config(size)).state_dict()
    assert guess_size(state) == size


def test_download_goes_through_the_cache_and_checks_the_sum(path, tmp_path, monkeypatch):
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    monkeypatch.setenv("IOOD_CACHE_DIR", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=path.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{path.name}"
    try:
        with pytest.raises(CheckpointError, match="could not be downloaded"):
            load_checkpoint(url, sha256="0" * 64)
        wanted = load_checkpoint(path).sha256
        assert load_checkpoint(url, sha256=wanted).sha256 == wanted
    finally:
        server.shutdown()
        server.server_close()
    assert load_checkpoint(url, sha256=wanted).path.is_file()  # the server is gone: read from the cache
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        load_checkpoint(url.replace("random", "absent"))


@pytest.mark.parametrize("name", ["nano", "nano-camvid"])
def test_shipped_checkpoints_load(name):
    segmenter = load_segmenter(name)
    assert segmenter.info["size"] == "nano" and segmenter.info["head_rows"] == 19
    assert segmenter.checkpoint.path.stat().st_size < 8_000_000


@pytest.mark.parametrize("head", ["UPerNet in our order", "left to mmseg"])
def test_bfloat16_says_nearly_the_same(monkeypatch, head):
    if head == "left to mmseg":
        monkeypatch.setattr(uper_head, "supports", lambda head: False)
    exact, rounded = load_segmenter("nano"), load_segmenter("nano", precision="bfloat16")
    for sample in load_dataset("mini/val", limit=3):
        a, b = exact.predict(sample.image()), rounded.predict(sample.image())
        assert (a.classes == b.classes).mean() > 0.995
        assert 1e-5 < abs(a.confidence - b.confidence).mean() < 0.005
        for one, other in zip((*a.features, a.decoder), (*b.features, b.decoder), strict=True):
            assert other.dtype == np.float32
            assert 1e-3 < np.linalg.norm(one - other) / np.linalg.norm(one) < 0.03
        if head != "left to mmseg":  # few ties: the classifier is not rounded
            assert len(np.unique(b.logits)) > 0.9 * b.logits.size


def test_bfloat16_halves_the_weights_of_products():
    exact, rounded = (load_segmenter("nano", precision=p) for p in ("float32", "bfloat16"))
    size = {s: sum(p.numel() * p.element_size() for p in s.model.parameters()) for s in (exact, rounded)}
    assert size[rounded] < 0.52 * size[exact]
    assert rounded.model.decode_head.conv_seg.weight.dtype == torch.float32
    assert (exact.info["precision"], rounded.info["precision"]) == ("float32", "bfloat16")


@pytest.mark.parametrize("wrong", [{"precision": "half"}, {"head": "some"}])
def test_unknown_options_are_named(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ParameterError, match=f"Unknown {name} '{value}'; use "):
        load_segmenter("nano", **wrong)


@pytest.mark.real_data
def test_bfloat16_on_photographs(real_data):
    if not (real_data / "camvid").is_dir():
        pytest.skip(f"{real_data} holds no camvid folder")
    exact, rounded = (load_segmenter("nano-camvid", precision=p) for p in ("float32", "bfloat16"))
    images = [sample.image() for sample in load_dataset("camvid/test", root=real_data, limit=3)]
    agreement = [(exact.predict(i).classes == rounded.predict(i).classes).mean() for i in images]
    assert min(agreement) > 0.98
