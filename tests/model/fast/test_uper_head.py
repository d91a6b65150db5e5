"""The head in the cheaper order against mmseg's own."""

from __future__ import annotations

import mmseg.models  # noqa: F401  (registers heads)
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from iood_helpers import load_segmenter
from iood_helpers.model.fast import uper_head, winograd
from iood_helpers.model.sizes import model_config


def make_head(seed=0):
    torch.manual_seed(seed)
    config = model_config("nano", num_classes=19, head_channels=32)
    head = MODELS.build(ConfigDict(config["decode_head"] | {"_scope_": "mmseg"})).eval()
    for module in head.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training; a new one would change nothing
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return head


@pytest.mark.parametrize("size", [(64, 96), (61, 97), (8, 8)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_equals_mmseg(size, align_corners):
    head = make_head()
    head.align_corners = align_corners
    maps = [torch.randn(2, c, -(-size[0] >> k), -(-size[1] >> k)) for k, c in enumerate(head.in_channels)]
    with torch.inference_mode():
        wanted = head.double()._forward_feature([m.double() for m in maps])
        got = uper_head.decoder_features(head.float(), maps)
    assert uper_head.supports(head)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (61, 97)])
def test_equals_mmseg_with_fewer_products(size, monkeypatch):
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 32)
    monkeypatch.setattr(winograd, "MIN_PIXELS", 1000)
    calls, conv3x3 = [], winograd.conv3x3
    monkeypatch.setattr(winograd, "conv3x3", lambda *args: calls.append(args) or conv3x3(*args))
    test_equals_mmseg(size, align_corners=False)
    assert len(calls) == 3  # the two finest maps, and the merge at the size of the finest


def test_a_bias_of_the_merge_counts(monkeypatch):
    head = make_head()
    head.fpn_bottleneck.conv.bias = torch.nn.Parameter(torch.randn(32))
    maps = [torch.randn(1, c, 64 >> k, 64 >> k) for k, c in enumerate(head.in_channels)]
    for limit in (10**6, 1):
        monkeypatch.setattr(winograd, "MIN_PIXELS", limit)
        monkeypatch.setattr(winograd, "MIN_CHANNELS", 32)
        with torch.inference_mode():
            got = uper_head.decoder_features(head, maps)
            torch.testing.assert_close(got, head._forward_feature(maps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "small, large", [((3, 5), (12, 17)), ((2, 70), (70, 140)), ((1, 1), (1, 1)), ((4, 4), (4, 4)), ((1, 1), (5, 2))]
)
def test_convolved_upsampling(small, large):
    torch.manual_seed(0)
    x, weight, out = torch.randn(2, 3, *small), torch.randn(4, 3, 3, 3), torch.randn(2, 4, *large)
    out = out.contiguous(memory_format=torch.channels_last)
    upsampled = F.interpolate(x, large, mode="bilinear", align_corners=False)
    wanted = out + F.conv2d(upsampled, weight, padding=1)
    torch.testing.assert_close(uper_head.add_convolved_upsampling(out, x, weight), wanted, rtol=1e-4, atol=1e-5)


def test_other_heads_are_left_to_mmseg():
    head = make_head()
    assert not uper_head.supports(head.train())
    head.eval().fpn_bottleneck.conv.dilation = (2, 2)
    assert not uper_head.supports(head)
    head = make_head()
    head.fpn_convs[1].conv.padding_mode = "reflect"
    assert not uper_head.supports(head)
    assert not uper_head.supports(torch.nn.Identity())


def test_the_segmenter_says_the_same_in_both_orders(monkeypatch):
    image = (torch.rand(96, 160, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    segmenter = load_segmenter("nano")
    fast = segmenter.predict(image)
    monkeypatch.setattr(uper_head, "supports", lambda head: False)
    slow = segmenter.predict(image)
    assert (fast.classes == slow.classes).all()
    for name in ("logits", "decoder", "confidence"):
        assert abs(getattr(fast, name) - getattr(slow, name)).max() < 1e-4
