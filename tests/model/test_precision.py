"""Which precision is used: the named one, or the faster one of this machine."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from iood_helpers import load_dataset, load_segmenter
from iood_helpers.errors import ParameterError
from iood_helpers.model import precision, segmenter


@pytest.fixture
def speeds(monkeypatch):
    """Seconds that a product shall seem to take, by type; how often it was timed."""
    found = SimpleNamespace(seconds={torch.float32: 1.0, torch.bfloat16: 1.0}, asked=0)

    def seconds(kind):
        found.asked += 1
        return found.seconds[kind]

    monkeypatch.setattr(precision, "_seconds", seconds)
    precision.is_bfloat16_faster.cache_clear()
    yield found
    precision.is_bfloat16_faster.cache_clear()


@pytest.mark.parametrize("bfloat16, wanted", [(0.5, "bfloat16"), (0.95, "float32"), (1.0, "float32"), (3, "float32")])
def test_auto_takes_bfloat16_where_a_product_is_clearly_faster(speeds, bfloat16, wanted):
    speeds.seconds[torch.bfloat16] = bfloat16
    loaded = load_segmenter("nano", device="cpu", precision="auto")
    assert loaded.precision == loaded.info["precision"] == wanted
    rounded = loaded.model.backbone.levels[0].blocks[0].mlp.fc1.weight.dtype
    assert rounded == (torch.bfloat16 if wanted == "bfloat16" else torch.float32)
    asked = speeds.asked
    assert precision.chosen_precision("auto", "cpu") == wanted and speeds.asked == asked  # timed once


def test_the_timed_product_takes_time():
    assert all(0 < precision._seconds(kind) < 30 for kind in (torch.float32, torch.bfloat16))


@pytest.mark.parametrize("supported, wanted", [(True, "bfloat16"), (False, "float32")])
def test_auto_on_cuda_asks_the_device(monkeypatch, speeds, supported, wanted):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert precision.chosen_precision("auto", "cuda:1") == wanted and not speeds.asked
    assert precision.chosen_precision("float16", "cuda") == "float16"
    assert precision.chosen_precision("auto", "meta") == "float32"


def test_float16_is_for_cuda():
    with pytest.raises(ParameterError, match="'float16' needs CUDA, not the device 'cpu'; use 'bfloat16' or 'auto'"):
        load_segmenter("nano", device="cpu", precision="float16")
    with pytest.raises(ParameterError, match="Unknown precision 'half'; use 'auto', 'float32', 'bfloat16', 'float16'"):
        precision.chosen_precision("half", "cuda")


def test_the_path_of_float16_on_the_cpu(monkeypatch):
    """No GPU is at hand: what CUDA would run, in PyTorch's emulation of it."""
    image = load_dataset("mini/val")[0].image()
    exact, rounded = (load_segmenter("nano", device="cpu", precision=p).predict(image) for p in ("float32", "bfloat16"))
    monkeypatch.setattr(segmenter, "chosen_precision", lambda *_: "float16")
    half = load_segmenter("nano", device="cpu")
    assert half.model.backbone.levels[0].blocks[0].mlp.fc1.weight.dtype == torch.float16
    assert half.model.decode_head.conv_seg.weight.dtype == torch.float32
    found = half.predict(image)
    error = [abs(p.confidence - exact.confidence).mean() for p in (found, rounded)]
    assert 1e-6 < error[0] < 0.5 * error[1]  # three more digits
    assert found.confidence.dtype == np.float32 and (found.classes == exact.classes).mean() > 0.999
