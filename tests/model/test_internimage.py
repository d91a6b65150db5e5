"""The backbone: official names and shapes, flags, sizes, training."""

from __future__ import annotations

import json
import math

import pytest
import torch
from conftest import GOLDEN
from mmseg.registry import MODELS

from iood_helpers.errors import ParameterError
from iood_helpers.model.blocks import LAYER_NORM_EPS
from iood_helpers.model.internimage import InternImage
from iood_helpers.model.sizes import SIZES, model_config

# Figures of the official models, as published with their configs.
ENTRIES = {"t": 767, "s": 825, "b": 825, "l": 913, "xl": 957}
PARAMETERS = {
    "t": 59_077_148,
    "s": 79_866_956,
    "b": 128_387_852,
    "l": 255_600_606,
    "xl": 367_733_000,
}
SMALL = {
    "channels": 8,
    "depths": (1, 1, 2, 1),
    "groups": (1, 2, 4, 8),
    "drop_path_rate": 0.0,
}


def skeleton(size: str) -> torch.nn.Module:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return MODELS.build(model_config(size, num_classes=150))


@pytest.mark.parametrize("size", ENTRIES)
def test_official_numbers_of_entries_and_parameters(size):
    model = skeleton(size)
    assert len(model.state_dict()) == ENTRIES[size]
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[size]


@pytest.mark.parametrize("size", ENTRIES)
def test_official_names_shapes_and_order(size):
    wanted = json.loads((GOLDEN / "internimage" / f"manifest_{size}.json").read_text())
    assert [(k, list(v.shape)) for k, v in skeleton(size).state_dict().items()] == list(wanted.items())


@pytest.mark.parametrize("flags", [{}, {"post_norm": True}, {"res_post_norm": True}, {"layer_scale": 1.0}])
def test_under_autocast_the_residual_sums_stay_float32(flags):
    torch.manual_seed(0)
    model = InternImage(**SMALL, **flags).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        exact = model(image)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(image)
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32 and not torch.equal(one, other)
        assert (one - other).norm() < 0.05 * one.norm()


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 32), (50, 130)])
def test_any_input_size_gives_four_maps_rounded_up(size):
    outputs = InternImage(**SMALL)(torch.randn(1, 3, *size))
    height, width = (math.ceil(math.ceil(s / 2) / 2) for s in size)
    for level, out in enumerate(outputs):
        assert out.shape == (1, 8 * 2**level, height, width) and out.is_contiguous()
        height, width = math.ceil(height / 2), math.ceil(width / 2)


def randomized(**flags) -> InternImage:
    torch.manual_seed(0)
    model = InternImage(**{**SMALL, **flags})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def reference_block(block, x):
    """One block written from its definition, without the flags' code."""
    ln = lambda norm, t: torch.nn.functional.layer_norm(t, t.shape[-1:], norm[0].weight, norm[0].bias, LAYER_NORM_EPS)
    if hasattr(block, "gamma1"):
        if block.config.post_norm:
            x = x + block.gamma1 * ln(block.norm1, block.dcn(x))
            return x + block.gamma2 * ln(block.norm2, block.mlp(x))
        x = x + block.gamma1 * block.dcn(ln(block.norm1, x))
        return x + block.gamma2 * block.mlp(ln(block.norm2, x))
    if block.config.post_norm:
        x = x + ln(block.norm1, block.dcn(x))
        return x + ln(block.norm2, block.mlp(x))
    if hasattr(block, "res_post_norm1"):
        x = x + ln(block.res_post_norm1, block.dcn(ln(block.norm1, x)))
        return x + ln(block.res_post_norm2, block.mlp(ln(block.norm2, x)))
    x = x + block.dcn(ln(block.norm1, x))
    return x + block.mlp(ln(block.norm2, x))


@pytest.mark.parametrize("layer_scale", [None, 0.7])
@pytest.mark.parametrize("flag", [{}, {"post_norm": True}, {"res_post_norm": True}])
def test_where_the_norms_stand(layer_scale, flag):
    block = randomized(layer_scale=layer_scale, **flag).levels[1].blocks[0]
    x = torch.randn(1, 5, 6, 16)
    torch.testing.assert_close(block(x), reference_block(block, x))


def test_level_norm_exists_unless_post_norm_without_center_scale():
    names = lambda **flags: set(InternImage(**SMALL, **flags).state_dict())
    assert "levels.0.norm.0.weight" in names()
    assert "levels.0.norm.0.weight" not in names(post_norm=True)
    assert "levels.0.norm.0.weight" in names(post_norm=True, center_feature_scale=True)


def test_flags_of_the_large_models():
    model = randomized(
        dw_kernel_size=5,
        res_post_norm=True,
        center_feature_scale=True,
        level2_post_norm=True,
        level2_post_norm_block_ids=(0, 1),
    )
    state = model.state_dict()
    assert state["levels.0.blocks.0.dcn.dw_conv.0.weight"].shape == (8, 1, 5, 5)
    assert state["levels.2.blocks.0.dcn.center_feature_scale_proj_weight"].shape == (
        4,
        32,
    )
    assert {"levels.2.post_norms.0.0.weight", "levels.2.post_norms.1.0.bias"} <= set(state)
    assert not any("post_norms" in name for name in state if not name.startswith("levels.2"))
    assert all(out.isfinite().all() for out in model(torch.randn(1, 3, 64, 96)))


def test_center_feature_scale_mixes_with_the_projected_input():
    dcn = randomized(center_feature_scale=True).levels[0].blocks[0].dcn
    x = torch.randn(1, 4, 5, 8)
    with torch.no_grad():
        dcn.center_feature_scale_proj_weight.zero_()
        dcn.center_feature_scale_proj_bias.fill_(50.0)  # sigmoid -> 1: only the centre counts
    torch.testing.assert_close(dcn(x), dcn.output_proj(dcn.input_proj(x)))


def test_norm_layer_bn_changes_names_as_officially():
    names = set(InternImage(**SMALL, norm_layer="BN").state_dict())
    assert {
        "patch_embed.norm1.0.running_mean",
        "levels.0.downsample.norm.0.running_mean",
    } <= names
    assert {
        "levels.0.blocks.0.dcn.dw_conv.1.0.running_mean",
        "levels.0.blocks.0.norm1.0.weight",
    } <= names


def test_starts_as_an_even_average():
    model = InternImage(**SMALL)
    dcn = model.levels[0].blocks[0].dcn
    assert dcn.offset.weight.abs().max() == 0 and dcn.mask.bias.abs().max() == 0
    assert dcn.input_proj.weight.abs().max() > 0


def test_drop_path_rates_rise_linearly_or_stay():
    rates = lambda kind: [
        round(block.drop_path.drop_prob, 6)
        for level in InternImage(**{**SMALL, "drop_path_rate": 0.4}, drop_path_type=kind).levels
        for block in level.blocks
    ]
    assert rates("linear") == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert rates("uniform") == [0.4] * 5


def test_drop_path_keeps_the_mean_while_training():
    torch.manual_seed(0)
    layer, x = InternImage(**{**SMALL, "drop_path_rate": 0.25}).levels[3].blocks[0].drop_path, torch.ones(4000, 1, 1, 2)
    out = layer.train()(x)
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 4 / 3]))
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(x), x)


def test_frozen_stages_never_freeze_the_stem():
    model = InternImage(**SMALL, frozen_stages=2).train()
    assert [all(p.requires_grad for p in level.parameters()) for level in model.levels] == [
        False,
        False,
        True,
        True,
    ]
    assert not model.levels[1].training and model.levels[2].training
    assert all(p.requires_grad for p in model.patch_embed.parameters())


def test_out_indices_choose_levels():
    everything, some = randomized(), randomized(out_indices=(1, 3))
    some.load_state_dict(everything.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for a, b in zip(some(x), [everything(x)[i] for i in (1, 3)], strict=True):
        torch.testing.assert_close(a, b)


def test_every_parameter_learns_and_recomputation_changes_nothing():
    plain, recomputed = (
        randomized(layer_scale=1.0).train(),
        randomized(layer_scale=1.0, with_cp=True).train(),
    )
    x = torch.randn(1, 3, 64, 64)
    for model in (plain, recomputed):
        sum(out.square().mean() for out in model(x)).backward()
    for (name, a), b in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        assert a.grad is not None and a.grad.abs().max() > 0, name
        torch.testing.assert_close(a.grad, b.grad)


def test_mmseg_inference_uses_the_backbone(tmp_path):
    from mmengine.config import Config
    from mmseg.apis import inference_model, init_model

    config = Config(
        {
            "model": model_config("nano"),
            "test_pipeline": [
                {"type": "LoadImageFromNDArray"},
                {"type": "PackSegInputs"},
            ],
            "test_dataloader": {
                "dataset": {
                    "pipeline": [
                        {"type": "LoadImageFromFile"},
                        {"type": "PackSegInputs"},
                    ]
                }
            },
            "default_scope": "mmseg",
        }
    )
    import numpy as np

    model = init_model(config, device="cpu")
    result = inference_model(model, np.zeros((64, 96, 3), np.uint8))
    assert result.pred_sem_seg.data.shape == (1, 64, 96)


def test_unknown_size_and_bad_lists():
    with pytest.raises(ParameterError, match="Unknown InternImage size 'xxl'.*nano"):
        model_config("xxl")
    with pytest.raises(ValueError, match="4 depths but 3 groups"):
        InternImage(groups=(1, 2, 4))
    with pytest.raises(ValueError, match="drop_path_type"):
        InternImage(**SMALL, drop_path_type="quadratic")
    assert set(SIZES) == {"nano", "t", "s", "b", "l", "xl"}
