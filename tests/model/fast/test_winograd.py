"""The 3x3 convolution with fewer products against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from iood_helpers.model.fast import winograd


def errors(x, weight):
    """Root mean square distance to float64 of ours and of PyTorch's float32, and the size of the numbers."""
    wanted = F.conv2d(x.double(), weight.double(), padding=1)
    found = winograd.conv3x3(x, weight), F.conv2d(x, weight, padding=1)
    return [(each - wanted).square().mean().sqrt().item() for each in found] + [wanted.square().mean().sqrt().item()]


@pytest.mark.parametrize("size", [(16, 24), (17, 24), (16, 23), (7, 9), (1, 1), (2, 1), (1, 5)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_equals_the_usual_convolution(size, channels_last):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, *size), torch.randn(5, 6, 3, 3)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    got = winograd.conv3x3(x, weight)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, F.conv2d(x, weight, padding=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("squares", [1, 10, 25])  # 12 lines of 5 squares: bands of one line, two, five (the last short)
def test_bands_meet(squares, monkeypatch):
    monkeypatch.setattr(winograd, "BAND_SQUARES", squares)
    torch.manual_seed(squares)
    x, weight = torch.randn(1, 4, 23, 10), torch.randn(4, 4, 3, 3)
    torch.testing.assert_close(winograd.conv3x3(x, weight), F.conv2d(x, weight, padding=1), rtol=1e-5, atol=1e-5)


def test_rounds_like_float32():
    torch.manual_seed(0)
    ours, usual, size = errors(torch.randn(1, 512, 32, 32), torch.randn(512, 512, 3, 3))
    # squares of 4 x 4 would be off by 1.3e-6 of the size at best
    assert ours < 5 * usual and ours < 6e-7 * size


def test_where_it_pays():
    x, weight = torch.zeros(1, 256, 64, 64), torch.zeros(256, 256, 3, 3)
    assert winograd.is_faster(x, weight)
    assert not winograd.is_faster(x[:, :, :63], weight)
    assert not winograd.is_faster(x[:, :255], weight[:, :255])
    assert not winograd.is_faster(x, weight[:255])
    assert not winograd.is_faster(x.bfloat16(), weight)
    assert not winograd.is_faster(x, weight.bfloat16())
    assert not winograd.is_faster(x.to("meta"), weight)
    assert not winograd.is_faster(x, torch.nn.Parameter(weight))
    with torch.no_grad():
        assert winograd.is_faster(x, torch.nn.Parameter(weight))
