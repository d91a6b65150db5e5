"""The operator against a slow loop that follows the definition point by point, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from iood_helpers.model.dcnv3 import dcnv3


def read(value, n, row, column, channel):
    """Zero outside the map."""
    inside = 0 <= row < value.shape[1] and 0 <= column < value.shape[2]
    return value[n, row, column, channel].item() if inside else 0.0


def slow_dcnv3(
    value,
    offset,
    mask,
    groups,
    scale=1.0,
    kernel=(3, 3),
    stride=(1, 1),
    padding=(1, 1),
    dilation=(1, 1),
):
    batch, height, width, channels = value.shape
    out_h = (height + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    out_w = (width + 2 * padding[1] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    half_y, half_x = (dilation[i] * (kernel[i] - 1) // 2 for i in (0, 1))
    per_group = channels // groups
    out = torch.zeros(batch, out_h, out_w, channels, dtype=value.dtype)
    for n in range(batch):
        for r in range(out_h):
            for c in range(out_w):
                for group in range(groups):
                    for ix in range(kernel[1]):  # x is the slow index
                        for iy in range(kernel[0]):
                            point = group * kernel[0] * kernel[1] + ix * kernel[0] + iy
                            ox, oy = (
                                offset[n, r, c, 2 * point].item(),
                                offset[n, r, c, 2 * point + 1].item(),
                            )
                            x = c * stride[1] - padding[1] + half_x + (ix * dilation[1] - half_x + ox) * scale
                            y = r * stride[0] - padding[0] + half_y + (iy * dilation[0] - half_y + oy) * scale
                            x0, y0 = math.floor(x), math.floor(y)
                            for i in range(per_group):
                                channel = group * per_group + i
                                sample = sum(
                                    read(value, n, y0 + dy, x0 + dx, channel)
                                    * (y - y0 if dy else 1 - y + y0)
                                    * (x - x0 if dx else 1 - x + x0)
                                    for dy in (0, 1)
                                    for dx in (0, 1)
                                )
                                out[n, r, c, channel] += mask[n, r, c, point].item() * sample
    return out


CASES = {
    "square": {"size": (5, 5), "groups": 2, "width": 4},
    "odd size": {"size": (4, 7), "groups": 3, "width": 6},
    "wide offsets": {"size": (5, 3), "groups": 1, "width": 2, "spread": 6.0},
    "offset scale 2": {"size": (5, 6), "groups": 2, "width": 4, "scale": 2.0},
    "stride 2": {"size": (5, 6), "groups": 2, "width": 4, "stride": (2, 2)},
    "strides differ": {
        "size": (7, 6),
        "groups": 1,
        "width": 2,
        "stride": (1, 2),
        "padding": (1, 0),
    },
    "kernel 5 dilation 2": {
        "size": (6, 7),
        "groups": 1,
        "width": 2,
        "kernel": (3, 5),
        "dilation": (2, 1),
        "padding": (2, 2),
    },
    "single pixel": {"size": (1, 1), "groups": 1, "width": 3},
}


def make(
    size,
    groups,
    width,
    spread=1.5,
    scale=1.0,
    kernel=(3, 3),
    stride=(1, 1),
    padding=(1, 1),
    dilation=(1, 1),
):
    generator = torch.Generator().manual_seed(0)
    points = kernel[0] * kernel[1]
    out = [(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    value = torch.randn(2, *size, width, generator=generator, dtype=torch.float64)
    offset = spread * torch.randn(2, *out, groups * points * 2, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, *out, groups * points, generator=generator, dtype=torch.float64)
    return (
        value,
        offset,
        mask,
        {
            "kernel": kernel,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "scale": scale,
        },
    )


@pytest.mark.parametrize("case", CASES)
def test_equals_the_slow_loop(case):
    value, offset, mask, options = make(**CASES[case])
    groups = CASES[case]["groups"]
    wanted = slow_dcnv3(value, offset, mask, groups, **options)
    scale, kernel = options.pop("scale"), options.pop("kernel")
    got = dcnv3(
        value,
        offset,
        mask,
        groups=groups,
        offset_scale=scale,
        kernel_size=kernel,
        **options,
    )
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)
    for backend in ("torch", "numba"):
        single = dcnv3(
            value.float(),
            offset.float(),
            mask.float(),
            groups=groups,
            offset_scale=scale,
            kernel_size=kernel,
            backend=backend,
            **options,
        )
        torch.testing.assert_close(single.double(), wanted, rtol=0, atol=1e-5)


def test_points_far_outside_give_zero():
    value, offset, mask, _ = make(size=(5, 5), groups=2, width=4)
    assert dcnv3(value, offset + 100, mask, groups=2).abs().max() == 0
    single = value.float(), offset.float() - 1e9, mask.float()
    assert dcnv3(*single, groups=2, backend="numba").abs().max() == 0


def test_zero_offsets_and_even_weights_are_a_box_mean():
    value = torch.randn(1, 6, 8, 4, dtype=torch.float64)
    offset, mask = torch.zeros(1, 6, 8, 36), torch.full((1, 6, 8, 18), 1 / 9)
    wanted = torch.nn.functional.avg_pool2d(value.permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(dcnv3(value, offset.double(), mask.double(), groups=2), wanted)


def test_fused_softmax_equals_softmax_before():
    value, offset, mask, _ = make(size=(5, 4), groups=2, width=4)
    soft = mask.view(2, 5, 4, 2, 9).softmax(-1).flatten(3)
    torch.testing.assert_close(
        dcnv3(value, offset, mask, groups=2, softmax=True),
        dcnv3(value, offset, soft, groups=2),
    )


@pytest.mark.parametrize("per_group", [1, 8, 16, 27, 40])  # whole vectors of 16 and 8 channels, and what is left over
@pytest.mark.parametrize("threads", [1, 3])
def test_the_compiled_loop_equals_pytorch_in_float64(per_group, threads):
    value, offset, mask, _ = make(size=(70, 90), groups=3, width=3 * per_group, spread=20.0)
    options = {"groups": 3, "offset_scale": 1.5, "softmax": True}
    wanted = dcnv3(value, offset, 5 * mask, **options)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = dcnv3(value.float(), offset.float(), 5 * mask.float(), backend="numba", **options)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=2e-5)


def test_the_compiled_softmax_holds_at_extremes():
    value, offset, mask, _ = make(size=(4, 4), groups=1, width=2)
    logits = mask.float() * 0
    logits[..., 0], logits[..., 1], logits[..., 2] = 3e4, 3e4 - 1, -3e4
    options = {"groups": 1, "softmax": True}
    wanted = dcnv3(value, offset, logits.double(), **options)
    got = dcnv3(value.float(), offset.float(), logits, backend="numba", **options)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("where", ["value", "offset", "mask"])
def test_nan_and_infinity_do_no_harm(where):
    value, offset, mask, _ = make(size=(40, 40), groups=1, width=16)
    inputs = {"value": value.float(), "offset": offset.float(), "mask": mask.float()}
    for bad in (float("nan"), float("inf"), -float("inf"), 1e30):
        broken = {k: t.clone() for k, t in inputs.items()}
        broken[where][0, 3, 4, 0] = bad
        out = dcnv3(*broken.values(), groups=1, softmax=True, backend="numba")
        if where == "mask" and bad != 1e30 and bad != -float("inf"):
            assert out[0, 3, 4].isnan().all()  # never a plausible number
        assert out[1].isfinite().all()


def test_choice_of_the_backend():
    from iood_helpers.model import dcnv3 as module

    value, offset, mask, _ = make(size=(5, 5), groups=2, width=4)
    single = value.float(), offset.float(), mask.float()
    assert module._chosen("auto", *single) == "numba"
    assert module._chosen("torch", *single) == "torch"
    assert module._chosen("auto", value, offset, mask) == "torch"  # float64
    trained = (single[0].clone().requires_grad_(), *single[1:])
    assert module._chosen("auto", *trained) == "torch"
    with torch.no_grad():
        assert module._chosen("auto", *trained) == "numba"
    with pytest.raises(ValueError, match="no gradients"):
        module._chosen("numba", *trained)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_short_numbers_are_computed_in_float32(kind, backend):
    # 300 columns: bfloat16 has no digits left for a fraction of a pixel there
    value, offset, mask, _ = make(size=(3, 300), groups=2, width=32)
    short = [tensor.to(kind) for tensor in (value, offset, mask)]
    got = dcnv3(*short, groups=2, softmax=True, backend=backend)
    wanted = dcnv3(*(tensor.double() for tensor in short), groups=2, softmax=True)
    assert got.dtype == kind
    torch.testing.assert_close(got.double(), wanted, rtol=torch.finfo(kind).eps, atol=1e-3)


def test_threads_are_those_of_pytorch(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from iood_helpers.model.fast import dcnv3_numba

    asked, value = [], torch.randn(1, 16, 16, 4)
    offset, mask = torch.randn(1, 16, 16, 18), torch.randn(1, 16, 16, 9)

    def pool(threads):
        asked.append(threads)
        return ThreadPoolExecutor(threads)

    monkeypatch.setattr(dcnv3_numba, "_pool", pool)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            outs = [dcnv3(value, offset, mask, groups=1, backend="numba") for _ in range(2)]
            assert torch.equal(*outs)  # the same sums in the same order, whichever thread took which rows
            assert torch.get_num_threads() == threads  # and PyTorch's own are left as they were
    finally:
        torch.set_num_threads(before)
    assert set(asked) == {1, 4}  # the calling thread works, too; one thread needs no pool


def test_gradients():
    value, offset, mask, _ = make(size=(3, 4), groups=2, width=4, spread=0.4)
    inputs = [x.requires_grad_() for x in (value, offset, mask)]
    assert torch.autograd.gradcheck(lambda v, o, m: dcnv3(v, o, m, groups=2, offset_scale=1.3), inputs)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"groups": 3}, "divided"),
        ({"backend": "magic"}, "backend"),
        ({"padding": 0}, "offset has shape"),
    ],
)
def test_bad_arguments(change, message):
    value, offset, mask, _ = make(size=(5, 5), groups=2, width=4)
    with pytest.raises(ValueError, match=message):
        dcnv3(value, offset, mask, **{"groups": 2, **change})
