"""Scales and flips give what mmseg's own model for them gives; a batch gives what its images give one by one."""

from __future__ import annotations

import copy

import mmcv
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmseg.models import SegTTAModel

from iood_helpers import load_segmenter
from iood_helpers.errors import ParameterError
from iood_helpers.model.sizes import model_config

SCALES = (0.75, 1.0, 1.25)
WINDOWS = {"mode": "slide", "crop_size": (64, 64), "stride": (43, 43)}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 256, (18, 26, 3), dtype=np.uint8) for _ in range(3)]
    return [np.kron(one, np.ones((4, 4, 1), np.uint8))[:70, :101] for one in small]


def by_mmseg(model, image, scales):
    """Mean probabilities (19, H, W) of mmseg's test-time augmentation."""
    flips = [{"type": "RandomFlip", "prob": p, "direction": "horizontal"} for p in (0.0, 1.0)]
    resizes = [{"type": "Resize", "scale_factor": scale, "keep_ratio": True} for scale in scales]
    augmented = {"type": "TestTimeAug", "transforms": [resizes, flips, [{"type": "PackSegInputs"}]]}
    bgr = image[..., ::-1].copy()
    data = {"img": bgr, "img_path": "", "img_shape": bgr.shape[:2], "ori_shape": bgr.shape[:2], "seg_fields": []}
    views = Compose([{"_scope_": "mmseg", **augmented}])(data)
    wrapped = SegTTAModel(module=model)
    samples = []
    with torch.no_grad():
        for x, sample in zip(views["inputs"], views["data_samples"], strict=True):
            prepared = model.data_preprocessor({"inputs": [x], "data_samples": [sample]})
            samples += model.predict(prepared["inputs"], prepared["data_samples"])
        (merged,) = wrapped.merge_preds([samples])
        mean = torch.stack([sample.seg_logits.data.softmax(0) for sample in samples]).mean(0)
    return mean.numpy(), merged.pred_sem_seg.data.numpy()


@pytest.mark.parametrize("test_cfg", [{"mode": "whole"}, WINDOWS], ids=["whole", "windows"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_scales_and_flips_are_those_of_mmseg(images, test_cfg, align_corners):
    config = {**model_config("nano"), "test_cfg": test_cfg}
    config["decode_head"]["align_corners"] = align_corners
    plain, several = (
        load_segmenter(copy.deepcopy(config), "nano", device="cpu", **options)
        for options in ({}, {"scales": SCALES, "flip": True})
    )
    probabilities, classes = by_mmseg(several.model, images[0], SCALES)
    usual, found = plain.predict(images[0]), several.predict(images[0])
    np.testing.assert_allclose(found.confidence, probabilities.max(0), atol=1e-4)
    assert (found.classes == classes).mean() > 0.999
    assert abs(found.confidence - usual.confidence).mean() > 0.01
    for one, other in zip((*found.features, found.decoder), (*usual.features, usual.decoder), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(found.logits, usual.logits, atol=1e-3)


def test_flips_alone_are_the_mean_of_two(images):
    plain = load_segmenter("nano", device="cpu")
    found = load_segmenter("nano", device="cpu", flip=True).predict(images[0])
    with torch.inference_mode():
        views = [plain._upsampled(images[0]), plain._upsampled(images[0][:, ::-1]).flip(3)]
    wanted = torch.stack([view.softmax(1) for view in views]).mean(0)[0]
    np.testing.assert_allclose(found.confidence, wanted.max(0).values, atol=1e-5)
    mirrored = load_segmenter("nano", device="cpu", flip=True).predict(images[0][:, ::-1])
    np.testing.assert_allclose(mirrored.confidence[:, ::-1], found.confidence, atol=1e-4)


def test_the_plain_view_need_not_take_part(images):
    plain, smaller = load_segmenter("nano", device="cpu"), load_segmenter("nano", device="cpu", scales=(0.5,))
    with torch.inference_mode():
        resized = plain._upsampled(mmcv.imrescale(images[0], 0.5))
    wanted = torch.nn.functional.interpolate(resized, (70, 101), mode="bilinear").softmax(1)[0]
    np.testing.assert_allclose(smaller.predict(images[0]).confidence, wanted.max(0).values, atol=1e-5)
    assert smaller.info["scales"] == [0.5] and smaller.info["flip"] is False


@pytest.mark.parametrize("scales", [(), (0,), (0.05,), (1, 1.0), (9,), ("1",), (float("nan"),)])
def test_impossible_scales(scales):
    with pytest.raises(ParameterError, match="Scales are different numbers from 0.1 to 8, not"):
        load_segmenter("nano", scales=scales)


@pytest.mark.parametrize("options", [{}, {"scales": (0.5, 1.0), "flip": True}, {"precision": "bfloat16"}])
def test_a_batch_gives_what_single_images_give(images, options):
    segmenter = load_segmenter("nano", device="cpu", **options)
    together, alone = segmenter.predict_batch(images), [segmenter.predict(image) for image in images]
    tolerance = 1e-4 if "precision" not in options else 0.05
    for one, other in zip(together, alone, strict=True):
        assert (one.classes == other.classes).mean() > 0.99
        np.testing.assert_allclose(one.confidence, other.confidence, atol=tolerance)
        for a, b in zip((*one.features, one.decoder), (*other.features, other.decoder), strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance * abs(b).max())
    assert abs(together[0].confidence - together[1].confidence).mean() > 0.01


def test_a_batch_counts_as_many_passes_as_images(images, tmp_path, monkeypatch):
    monkeypatch.setenv("IOOD_PASS_LOG", str(tmp_path / "log"))
    load_segmenter("nano", device="cpu").predict_batch(images)
    assert (tmp_path / "log").read_text().splitlines() == ["70x101"] * 3


def test_a_batch_in_windows(images):
    segmenter = load_segmenter({**model_config("nano"), "test_cfg": WINDOWS}, "nano", device="cpu")
    for one, image in zip(segmenter.predict_batch(images), images, strict=True):
        np.testing.assert_allclose(one.confidence, segmenter.predict(image).confidence, atol=1e-4)


def test_a_batch_holds_images_of_one_size(images):
    segmenter = load_segmenter("nano", device="cpu")
    assert segmenter.predict_batch([]) == []
    with pytest.raises(ParameterError, match=r"images of one size, not of \[\(60, 101\), \(70, 101\)\]"):
        segmenter.predict_batch([images[0], images[1][:60]])
