"""Models of mmseg configs predict what mmseg's own inference predicts, or are refused in one sentence."""

from __future__ import annotations

import copy

import mmseg.models  # noqa: F401  (registers heads and segmentors)
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from iood_helpers import load_segmenter
from iood_helpers.errors import CheckpointError
from iood_helpers.model.checkpoints import load_checkpoint

BN = {"type": "BN", "requires_grad": True}
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def head(index=1, width=16, **changes):
    return {
        **{"type": "FCNHead", "in_channels": width, "in_index": index, "channels": 16, "num_convs": 1},
        **{"concat_input": False, "dropout_ratio": 0.1, "num_classes": 19, "norm_cfg": BN, "align_corners": False},
        "loss_decode": {"type": "CrossEntropyLoss"},
        **changes,
    }


def ocr_head():
    without = ("num_convs", "concat_input")
    return {k: v for k, v in head(type="OCRHead", ocr_channels=8).items() if k not in without}


def preprocessor(**changes):
    return {"type": "SegDataPreProcessor", "mean": MEAN, "std": STD, "bgr_to_rgb": True, "pad_val": 0, **changes}


def config(**changes):
    backbone = {
        **{"type": "ResNetV1c", "depth": 18, "num_stages": 4, "base_channels": 8, "out_indices": (0, 1, 2, 3)},
        **{"dilations": (1, 1, 1, 1), "strides": (1, 2, 2, 2), "norm_cfg": BN, "norm_eval": False, "style": "pytorch"},
        "contract_dilation": True,
    }
    return {
        **{"type": "EncoderDecoder", "backbone": backbone, "decode_head": head(), "auxiliary_head": head(2, 32)},
        **{"data_preprocessor": preprocessor(), "train_cfg": {}, "test_cfg": {"mode": "whole"}, **changes},
    }


def built(model, path):
    """The model with random weights, as mmseg makes it; the weights at ``path``."""
    torch.manual_seed(0)
    made = MODELS.build(ConfigDict({**copy.deepcopy(model), "_scope_": "mmseg"})).eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after some training: else all pixels are of one class
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in made.named_parameters():
        if name.endswith("conv_seg.weight"):
            parameter.data.normal_(0, 3)
            parameter.data -= parameter.data.mean(1, keepdim=True)
    torch.save({"state_dict": made.state_dict(), "meta": {}}, path)
    return made


@pytest.fixture(scope="module")
def image():
    small = np.random.default_rng(0).integers(0, 256, (23, 39, 3), dtype=np.uint8)
    return np.kron(small, np.ones((4, 4, 1), np.uint8))[:88, :152]


def by_mmseg(made, image):
    """Soft-max (19, H, W) of mmseg's own way from an image as it reads it (BGR) to logits."""
    size = {"ori_shape": image.shape[:2], "img_shape": image.shape[:2]}
    bgr = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    with torch.no_grad():
        prepared = made.data_preprocessor({"inputs": [bgr], "data_samples": [SegDataSample(metainfo=size)]})
        (sample,) = made.predict(prepared["inputs"], prepared["data_samples"])
    return sample.seg_logits.data.softmax(0).numpy()


def segmenter_and_truth(model, path, image):
    made = built(model, path)
    return load_segmenter(copy.deepcopy(model), path), by_mmseg(made, image)


CONFIGS = {
    "as usual": {},
    "align_corners": {"decode_head": head(align_corners=True)},
    "windows": {"test_cfg": {"mode": "slide", "crop_size": (64, 64), "stride": (42, 42)}},
    "windows larger than the image": {"test_cfg": {"mode": "slide", "crop_size": (256, 256), "stride": (170, 170)}},
    "BGR": {"data_preprocessor": preprocessor(bgr_to_rgb=False)},
    "other statistics": {"data_preprocessor": preprocessor(mean=[10, 20, 30], std=[99, 50, 70])},
    "statistics for all channels": {"data_preprocessor": preprocessor(mean=[110], std=[60])},
    "no statistics": {"data_preprocessor": {"type": "SegDataPreProcessor", "bgr_to_rgb": True}},
    "divisor": {"data_preprocessor": preprocessor(test_cfg={"size_divisor": 64}, pad_val=1)},
    "size": {"data_preprocessor": preprocessor(test_cfg={"size": (128, 256)})},
    "list of auxiliary heads": {"auxiliary_head": [head(2, 32), head(0, 8)]},
    "cascade": {"type": "CascadeEncoderDecoder", "num_stages": 2, "decode_head": [head(), ocr_head()]},
    "several maps": {
        "decode_head": {
            **{k: v for k, v in head(type="DAHead").items() if k not in ("num_convs", "concat_input")},
            "pam_channels": 8,
        }
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_predictions_are_those_of_mmseg(name, tmp_path, image):
    segmenter, right = segmenter_and_truth(config(**CONFIGS[name]), tmp_path / "w.pth", image)
    found = segmenter.predict(image)
    assert found.size == image.shape[:2]
    assert len(np.unique(right.argmax(0))) > 1, "a model that says one class everywhere shows nothing"
    np.testing.assert_allclose(found.confidence, right.max(0), atol=1e-4)
    assert (found.classes == right.argmax(0)).mean() > 0.999
    assert found.decoder.shape[1:] == found.logits.shape[1:] and found.logits.shape[0] == 19


def test_the_options_matter(tmp_path, image):
    """Each of them changes the prediction: the test above would see one that is forgotten."""
    usual = by_mmseg(built(config(), tmp_path / "w.pth"), image)
    for name in ("align_corners", "windows", "BGR", "other statistics", "no statistics", "divisor", "size"):
        other = by_mmseg(built(config(**CONFIGS[name]), tmp_path / "w.pth"), image)
        assert abs(other - usual).max() > 0.05, name


def test_maps_of_a_padded_image_end_where_the_image_ends(tmp_path, image):
    usual, _ = segmenter_and_truth(config(), tmp_path / "a.pth", image)
    padded, _ = segmenter_and_truth(config(**CONFIGS["size"]), tmp_path / "b.pth", image)
    shapes = [[m.shape for m in (*s.predict(image).features, s.predict(image).decoder)] for s in (usual, padded)]
    assert shapes[0] == shapes[1]


def test_windows_leave_features_whole_and_average_logits(tmp_path, image):
    model = config(**CONFIGS["windows"])
    sliding, _ = segmenter_and_truth(model, tmp_path / "w.pth", image)
    whole = load_segmenter(config(), tmp_path / "w.pth").predict(image)
    found = sliding.predict(image)
    for one, other in zip((*found.features, found.decoder), (*whole.features, whole.decoder), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert abs(found.logits - whole.logits).max() > 0.1
    assert found.logits.shape == whole.logits.shape
    with torch.inference_mode():
        every = sliding._slide(sliding._prepare(image))[0].numpy()
    np.testing.assert_allclose(found.logits, every.reshape(19, 11, 8, 19, 8).mean((2, 4)), atol=1e-4)
    assert (found.logits.argmax(0) == found.classes[4::8, 4::8]).mean() > 0.8


def test_windows_use_the_first_rows_of_a_larger_head(tmp_path, image):
    model = config(**CONFIGS["windows"], decode_head=head(num_classes=25), auxiliary_head=None)
    built(model, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="25 rows"):
        sliced = load_segmenter(copy.deepcopy(model), tmp_path / "w.pth").predict(image)
    full = load_segmenter(copy.deepcopy(model), tmp_path / "w.pth", head="full").predict(image)
    np.testing.assert_allclose(sliced.logits, full.logits, atol=1e-5)
    assert (full.confidence < sliced.confidence).mean() > 0.9  # six further rows take their share


def test_statistics_in_the_words_of_mmseg_0(tmp_path, image):
    model = config(data_preprocessor=preprocessor(mean=[10, 20, 30], std=[99, 50, 70], bgr_to_rgb=False))
    right = by_mmseg(built(model, tmp_path / "w.pth"), image)
    del model["data_preprocessor"]
    old = {"model": model, "img_norm_cfg": {"mean": [10, 20, 30], "std": [99, 50, 70], "to_rgb": False}}
    found = load_segmenter(old, tmp_path / "w.pth").predict(image)
    np.testing.assert_allclose(found.confidence, right.max(0), atol=1e-4)


def test_rows_come_from_the_weights_in_every_head(tmp_path, image):
    model = config(type="CascadeEncoderDecoder", num_stages=2, decode_head=[head(), ocr_head()])
    wide = copy.deepcopy(model)
    for part in (*wide["decode_head"], wide["auxiliary_head"]):
        part["num_classes"] = 25
    made = built(wide, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="25 rows"):
        segmenter = load_segmenter(model, tmp_path / "w.pth")
    right = by_mmseg(made, image)[:19]
    assert (segmenter.predict(image).classes == right.argmax(0)).mean() > 0.999


@pytest.mark.parametrize("kind", ["SyncBN", "MMSyncBN"])
def test_norms_of_many_processes_run_on_one(kind, tmp_path, image):
    right = by_mmseg(built(config(), tmp_path / "w.pth"), image)
    synced = {"norm_cfg": {"type": kind, "requires_grad": True}}
    segmenter = load_segmenter(
        config(decode_head=head(**synced), auxiliary_head=head(2, 32, **synced)), tmp_path / "w.pth"
    )
    assert (segmenter.predict(image).classes == right.argmax(0)).mean() > 0.999


def test_the_config_given_is_left_as_it_is(tmp_path):
    model = config(pretrained="nowhere", backbone={**config()["backbone"], "init_cfg": {"type": "Pretrained"}})
    built(config(), tmp_path / "w.pth")
    before = copy.deepcopy(model)
    load_segmenter(model, tmp_path / "w.pth")
    assert model == before


REFUSED = {
    "no head has a conv_seg": (
        {
            "decode_head": {
                **{"type": "SegmenterMaskTransformerHead", "in_channels": 16, "in_index": 1, "channels": 64},
                **{"num_classes": 19, "num_layers": 1, "num_heads": 2, "embed_dims": 64, "dropout_ratio": 0.0},
            }
        },
        "cannot be taken apart",
    ),
    "unknown segmentor": ({"type": "EncoderDecoderMask2Former"}, "cannot be built"),
    "unknown head": ({"decode_head": {"type": "Mask2FormerHead", "num_classes": 19}}, "cannot be built"),
    "unknown backbone": ({"backbone": {"type": "mmpretrain.ConvNeXt", "arch": "tiny"}}, "cannot be built"),
    "no backbone": ({"backbone": None}, "no model with a backbone"),
    "unknown mode": ({"test_cfg": {"mode": "crop"}}, "tests in mode 'crop'"),
    "windows without sizes": ({"test_cfg": {"mode": "slide"}}, "tests in mode 'slide' with crop_size None"),
    "windows with gaps": ({"test_cfg": {"mode": "slide", "crop_size": (32, 32), "stride": (40, 40)}}, "smaller steps"),
    "mean without deviation": ({"data_preprocessor": preprocessor(std=None)}, "cannot be built"),
    "statistics that are no numbers": ({"data_preprocessor": preprocessor(std=[0, 0, 0])}, "predict different logits"),
    "two ways to pad": (
        {"data_preprocessor": preprocessor(test_cfg={"size": (64, 64), "size_divisor": 8})},
        "only one of size and size_divisor",
    ),
    "windows that stand": ({"test_cfg": {"mode": "slide", "crop_size": (32, 32), "stride": (0, 8)}}, "smaller steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_while_loading(name, tmp_path):
    changes, match = REFUSED[name]
    buildable = "conv_seg" in name
    built(config(**(changes if buildable else {})), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=match):
        load_segmenter(config(**changes), tmp_path / "w.pth")


@pytest.mark.parametrize("text", ["optimizer = dict(type='SGD')", "model = 3", "raise SystemExit", "model = dict("])
def test_config_files_without_a_model(text, tmp_path):
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(CheckpointError, match="config"):
        load_segmenter(tmp_path / "config.py", "nano")


def test_weights_of_whole_numbers_are_named(tmp_path):
    built(config(), tmp_path / "w.pth")
    state = load_checkpoint(tmp_path / "w.pth").state_dict
    state["decode_head.conv_seg.weight"] = torch.ones(19, 16, 1, 1, dtype=torch.int64)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"1 of another type \(decode_head.conv_seg.weight of torch.int64"):
        load_segmenter(config(), tmp_path / "w.pth")
