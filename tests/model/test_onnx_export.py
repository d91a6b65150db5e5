"""What another runtime computes from the ONNX file is what PyTorch computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from random_weights import random_state

from iood_helpers import Prediction, load_segmenter
from iood_helpers.errors import CheckpointError, ParameterError
from iood_helpers.model import onnx_export
from iood_helpers.model.checkpoints import Checkpoint
from iood_helpers.model.segmenter import Segmenter
from iood_helpers.model.sizes import model_config

pytest.importorskip("onnxscript", reason="needs the extra [onnx]")
SHAPE = (70, 101)
"""Neither divides by a stride, and the coarsest map, 3 x 4, is pooled to 6 x 6."""


@pytest.fixture(scope="module")
def image():
    small = np.random.default_rng(0).integers(0, 256, (18, 26, 3), dtype=np.uint8)
    return np.kron(small, np.ones((4, 4, 1), np.uint8))[: SHAPE[0], : SHAPE[1]]


def random_segmenter(size, **changes):
    """Offsets of DCNv3 are random, too: with mmseg's first weights they would all be zero."""
    model = MODELS.build(ConfigDict({**model_config(size), **changes}))
    state = random_state({name: tensor.shape for name, tensor in model.state_dict().items()})
    model.load_state_dict(state)
    return Segmenter(model, Checkpoint(Path("random.pth"), "", {}, {}, size, 19))


def by_onnxruntime(path, image):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = session.run(None, {"image": image.transpose(2, 0, 1)[None].astype(np.float32)})
    return {output.name: value[0] for output, value in zip(session.get_outputs(), values, strict=True)}


@pytest.mark.slow
def test_onnxruntime_gives_what_pytorch_gives(image, tmp_path):
    """InternImage-T; tests/test_elsewhere.py compares nano."""
    segmenter = random_segmenter("t")
    path = onnx_export.export_onnx(segmenter, tmp_path / "network.onnx", SHAPE)
    found, wanted = by_onnxruntime(path, image), segmenter.predict(image)
    expected = {"logits": wanted.logits, "decoder": wanted.decoder}
    expected |= {f"features_{level}": values for level, values in enumerate(wanted.features)}
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert values.std() > 0.01
        np.testing.assert_allclose(found[name], values, atol=1e-4 * max(1, abs(values).max()), err_msg=name)
    features = [found[f"features_{level}"] for level in range(4)]
    again = Prediction.from_arrays(features, found["logits"], SHAPE, decoder=found["decoder"])
    assert (again.classes == wanted.classes).mean() > 0.999
    np.testing.assert_allclose(again.confidence, wanted.confidence, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, (6, 6), (5, 7)])
def test_pooling_by_products_is_adaptive_pooling(size):
    x = torch.randn(2, 3, 4, 11)
    with onnx_export._PlainPooling():
        found = torch.nn.AdaptiveAvgPool2d(size)(x)
    torch.testing.assert_close(found, F.adaptive_avg_pool2d(x, size))


def test_what_no_file_can_hold_is_refused(tmp_path, monkeypatch):
    path, windows = tmp_path / "network.onnx", {"mode": "slide", "crop_size": (64, 64), "stride": (32, 32)}
    segmenter = load_segmenter("nano", device="cpu")
    with pytest.raises(ParameterError, match="float32 on the CPU"):
        onnx_export.export_onnx(load_segmenter("nano", device="cpu", precision="bfloat16"), path, SHAPE)
    with pytest.raises(ParameterError, match="at least 32 x 32"):
        onnx_export.export_onnx(segmenter, path, (16, 64))
    with pytest.raises(CheckpointError, match=r"random\.pth works in windows"):
        onnx_export.export_onnx(random_segmenter("nano", test_cfg=windows), path, SHAPE)
    padding = {**model_config("nano")["data_preprocessor"], "test_cfg": {"size_divisor": 64}}
    with pytest.raises(ParameterError, match=r"pads such images to \(128, 128\)"):
        onnx_export.export_onnx(random_segmenter("nano", data_preprocessor=padding), path, SHAPE)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(ParameterError, match=r"written with onnxscript; install the extra: pip install '\.\[onnx\]'"):
        onnx_export.export_onnx(segmenter, path, SHAPE)
    assert not path.exists()
