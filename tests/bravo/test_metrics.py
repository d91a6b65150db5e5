"""BRAVO metrics: against the official toolkit, against scikit-learn, and on degenerate input."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from iood_helpers.bravo import histograms as ranking
from iood_helpers.bravo import metrics
from iood_helpers.bravo.accumulator import BravoAccumulator, per_class_iou
from iood_helpers.bravo.metrics import bravo_metrics, harmonic_mean
from iood_helpers.bravo.protocol import OOD_METRICS, SEMANTIC_METRICS
from iood_helpers.bravo.sampling import sample_pixels
from iood_helpers.datasets import BRAVO_LAYOUT
from iood_helpers.errors import MetricsError

SHAPE = (40, 60)


def scene(seed: int, shape: tuple[int, int] = SHAPE, with_invalid: bool = True):
    """A random image: about 80 % correct, errors and invalid pixels somewhat less confident."""
    rng = np.random.default_rng(seed)
    gt = rng.integers(0, 19, shape, dtype=np.uint8)
    classes = np.where(rng.random(shape) < 0.8, gt, rng.integers(0, 19, shape)).astype(np.uint8)
    invalid = (rng.random(shape) < 0.1) & with_invalid
    confidence = rng.beta(4, 1.5, shape) - 0.2 * (classes != gt) - 0.25 * invalid
    gt[rng.random(shape) < 0.05] = 255
    return gt, invalid, classes, confidence.clip(0, 1).astype(np.float32)


def pooled(images):
    """Labels, correctness, OOD flag and quantised score of all non-void pixels, for scikit-learn."""
    gt, invalid, classes, confidence = (
        np.concatenate([part.ravel() for part in parts]) for parts in zip(*images, strict=True)
    )
    levels = np.round(confidence.astype(np.float64) * 65535).astype(int)
    known = gt != 255
    return gt[known], invalid[known], classes[known], levels[known]


@pytest.fixture(scope="module")
def images():
    return [scene(seed) for seed in range(6)]


def test_what_a_split_is_asked_for(images):
    labelled, bare = BravoAccumulator("ACDCfog"), BravoAccumulator("synobjs")
    for gt, invalid, classes, confidence in images:
        labelled.update(gt, invalid, classes, confidence)
        bare.update(None, None, classes, confidence)
    assert metrics.subset_metrics("mini/ACDCfog", labelled) == bravo_metrics(images, "ACDCfog")
    assert {"devobjs_auprc_ood", "devobjs_ece_valid"} <= set(metrics.subset_metrics("mini/devobjs", labelled))
    assert set(metrics.subset_metrics("mini/SMIYC", labelled)) == {f"SMIYC_{key}" for key in OOD_METRICS}
    assert metrics.subset_metrics("bravo/synobjs", bare) == {}


# the official toolkit


def arrays(archive: Path) -> dict[str, np.ndarray]:
    with tarfile.open(archive) as tar:
        return {
            member.name.removeprefix("tree/"): np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())))
            for member in tar
            if member.isfile()
        }


def golden_subsets(folder: Path) -> dict[str, list]:
    truth, tree = arrays(folder / "gt.tar"), arrays(folder / "tree.tar")
    subsets = {}
    for subset, layout in BRAVO_LAYOUT.items():
        bases = [
            name.removesuffix(layout.label)
            for name in truth
            if name.startswith(f"{layout.folder}/{layout.part or ''}") and name.endswith(layout.label)
        ]
        subsets[subset] = [
            (
                truth[f"{base}{layout.label}"],
                truth[f"{base}{layout.mask}"],
                tree[f"{base}{layout.image}_pred.png"],
                tree[f"{base}{layout.image}_conf.png"],
            )
            for base in bases
        ]
    return subsets


def test_equals_the_official_toolkit():
    folder = GOLDEN / "bravo"
    expected = json.loads((folder / "results.json").read_text())
    subsets = golden_subsets(folder)
    results = bravo_metrics({name: iter(images) for name, images in subsets.items()})
    assert set(results) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(results[key], value, rtol=0, atol=1e-9, err_msg=key)
    fog = bravo_metrics(subsets["ACDCfog"], subset="ACDCfog")
    assert fog == {k: v for k, v in results.items() if k.startswith("ACDCfog_") and not k.endswith("_hmean")}


# scikit-learn


def test_semantic_metrics_equal_scikit_learn(images):
    results = bravo_metrics(images)
    gt, invalid, classes, levels = pooled(images)
    gt, classes, levels = gt[~invalid], classes[~invalid], levels[~invalid]
    correct = gt == classes
    assert results["auroc_valid"] == pytest.approx(roc_auc_score(correct, levels), abs=1e-12)
    assert results["auprc_success_valid"] == pytest.approx(average_precision_score(correct, levels), abs=1e-12)
    assert results["auprc_error_valid"] == pytest.approx(average_precision_score(~correct, -levels), abs=1e-12)
    fpr, tpr, _ = roc_curve(correct, levels, drop_intermediate=False)
    assert results["fpr95_valid"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)
    iou = per_class_iou(confusion_matrix(gt, classes, labels=range(19)))
    np.testing.assert_allclose(results["iou_valid"], iou, rtol=0, atol=1e-12)
    assert results["miou_valid"] == pytest.approx(iou.mean(), abs=1e-12)


def test_ood_metrics_equal_scikit_learn(images):
    results = bravo_metrics(images)
    _, invalid, _, levels = pooled(images)
    assert results["auroc_ood"] == pytest.approx(roc_auc_score(invalid, -levels), abs=1e-12)
    assert results["auprc_ood"] == pytest.approx(average_precision_score(invalid, -levels), abs=1e-12)
    fpr, tpr, _ = roc_curve(invalid, -levels, drop_intermediate=False)
    assert results["fpr95_ood"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)


def test_calibration_error_equals_its_definition(images):
    gt, invalid, classes, levels = pooled(images)
    gt, classes, levels = gt[~invalid], classes[~invalid], levels[~invalid]
    edges = [round(k * 65536 / 15) for k in range(16)]
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (levels >= low) & (levels < high)
        if inside.any():
            accuracy = (gt == classes)[inside].mean()
            expected += inside.mean() * abs(accuracy - ((levels[inside] + 0.5) / 65536).mean())
    assert bravo_metrics(images)["ece_valid"] == pytest.approx(expected, abs=1e-12)
    curve = BravoAccumulator()
    for image in images:
        curve.update(*image)
    curve = curve.reliability_curve()
    assert curve.share.sum() == pytest.approx(1)
    gap = np.nansum(curve.share * np.abs(curve.accuracy - curve.confidence))
    assert gap == pytest.approx(expected, abs=1e-12)


def test_bin_edges_are_rounded_not_cut():
    edges = ranking.bin_edges()
    assert (edges[0], edges[1], edges[8], edges[14], edges[15]) == (0, 4369, 34953, 61167, 65536)
    assert edges.size == 16


def test_tied_scores_count_as_one_threshold():
    gt = np.zeros((32, 32), dtype=np.uint8)
    classes = np.zeros_like(gt)
    classes[:8] = 1
    results = bravo_metrics([(gt, None, classes, np.full(gt.shape, 0.7))])
    assert results["auroc_valid"] == 0.5
    assert results["auprc_success_valid"] == 0.75
    assert results["auprc_error_valid"] == 0.25
    assert results["fpr95_valid"] == 1.0


# accumulation


def test_halves_added_are_the_whole(images):
    whole, first, second = BravoAccumulator("all"), BravoAccumulator("all"), BravoAccumulator()
    for image in images:
        whole.update(*image)
    for image in images[:2]:
        first.update(*image)
    for image in images[2:]:
        second.update(*image)
    total = first + second
    assert (first.images, second.images, total.images) == (2, 4, 6)
    assert total.compute(ood=True) == whole.compute(ood=True)
    assert (second + first).compute(ood=True) == whole.compute(ood=True)
    assert first.merge(second) is first
    assert first.compute(ood=True) == whole.compute(ood=True)
    assert second.images == 4 and first.name == "all"


def test_order_of_images_does_not_matter(images):
    assert bravo_metrics(images) == bravo_metrics(reversed(images))


def test_tensors_give_the_numbers_of_arrays(images):
    expected = bravo_metrics(images)
    tensors = [tuple(torch.from_numpy(part) for part in image) for image in images]
    assert bravo_metrics(tensors) == expected
    tensors = [(g.long(), i.to(torch.uint8), c.long(), p.double().requires_grad_()) for g, i, c, p in tensors]
    assert bravo_metrics(tensors) == expected


def test_half_precision_tensors_are_read():
    gt, invalid, classes, confidence = scene(0)
    for dtype in (torch.float16, torch.bfloat16):
        half = torch.from_numpy(confidence).to(dtype)
        exact = half.float().numpy()
        assert bravo_metrics([(gt, invalid, classes, half)]) == bravo_metrics([(gt, invalid, classes, exact)])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_levels_equal_floats(images, dtype):
    levels = [(g, i, c, np.round(p.astype(np.float64) * 65535).astype(dtype)) for g, i, c, p in images]
    assert bravo_metrics(levels) == bravo_metrics(images)


def test_any_mask_value_but_zero_is_invalid():
    gt, invalid, classes, confidence = scene(0)
    expected = bravo_metrics([(gt, invalid, classes, confidence)])
    assert bravo_metrics([(gt, invalid * np.uint8(255), classes, confidence)]) == expected


def test_void_pixels_change_nothing():
    gt, invalid, classes, confidence = scene(0)
    expected = bravo_metrics([(gt, invalid, classes, confidence)])
    void = gt == 255
    changed = (gt, invalid ^ void, np.where(void, 3, classes), np.where(void, 0.0, confidence))
    assert void.any() and bravo_metrics([changed]) == expected


def test_better_ranking_gives_better_figures(images):
    better = [(g, i, c, np.where(i, p * 0.5, np.where(c == g, 0.5 + p / 2, p * 0.5))) for g, i, c, p in images]
    low, high = bravo_metrics(images), bravo_metrics(better)
    for key in (*SEMANTIC_METRICS, *OOD_METRICS):
        if key not in ("miou_valid", "ece_valid"):
            assert (high[key] < low[key]) == (key in metrics.LOWER_IS_BETTER), key
    assert high["miou_valid"] == low["miou_valid"]


# sampling


def test_small_images_keep_every_pixel_that_is_not_void():
    gt, *_ = scene(0)
    np.testing.assert_array_equal(sample_pixels(gt), np.flatnonzero(gt.ravel() != 255))


def test_sampling_is_the_protocol_and_leaves_the_global_generator_alone():
    gt = np.zeros((400, 400), dtype=np.uint8)
    gt[:, :20] = 255
    np.random.seed(123)
    before = np.random.get_state()[1].copy()
    sampled = sample_pixels(gt)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(1)
    expected = np.sort(np.random.choice(np.flatnonzero(gt.ravel() != 255), 100000, replace=False))
    np.testing.assert_array_equal(sampled, expected)


def test_ranking_uses_sampled_pixels_and_miou_all():
    image = scene(3, shape=(400, 400))
    accumulator = BravoAccumulator().update(*image)
    gt, invalid, *_ = image
    assert accumulator.confusion.sum() == ((gt != 255) & ~invalid).sum()
    sampled = (accumulator.correct + accumulator.wrong + accumulator.invalid).sum()
    assert sampled == 100_000 < (gt != 255).sum()
    assert accumulator.invalid.sum() == invalid.ravel()[sample_pixels(gt)].sum()


# subsets and aggregates


def test_subset_keys_follow_the_protocol(images):
    fog = bravo_metrics(images, subset="ACDCfog")
    assert set(fog) == {f"ACDCfog_{key}" for key in (*SEMANTIC_METRICS, "iou_valid")}
    smiyc = bravo_metrics(images, subset="SMIYC")
    assert set(smiyc) == {f"SMIYC_{key}" for key in OOD_METRICS}
    for subset in ("synobjs", "devobjs", "newobjs"):
        both = bravo_metrics(images, subset=subset)
        assert set(both) == {f"{subset}_{key}" for key in (*SEMANTIC_METRICS, "iou_valid", *OOD_METRICS)}
    plain = bravo_metrics(images)
    assert all(plain[key.removeprefix("ACDCfog_")] == value for key, value in fog.items())


def test_aggregates_are_harmonic_means(images):
    names = list(BRAVO_LAYOUT)
    results = bravo_metrics({name: [scene(10 + i)] for i, name in enumerate(names)})

    def good(name, keys):
        return [1 - results[f"{name}_{k}"] if k in metrics.LOWER_IS_BETTER else results[f"{name}_{k}"] for k in keys]

    semantic = [x for name in names if name != "SMIYC" for x in good(name, SEMANTIC_METRICS)]
    ood = good("SMIYC", OOD_METRICS) + good("synobjs", OOD_METRICS)
    assert (len(semantic), len(ood)) == (48, 6)
    for key, values in {
        "semantic_hmean": semantic,
        "ood_hmean": ood,
        "ACDCfog_hmean": good("ACDCfog", SEMANTIC_METRICS),
        "SMIYC_hmean": good("SMIYC", OOD_METRICS),
        "synobjs_hmean": good("synobjs", SEMANTIC_METRICS + OOD_METRICS),
        "bravo_index": (results["semantic_hmean"], results["ood_hmean"]),
    }.items():
        assert results[key] == pytest.approx(len(values) / sum(1 / x for x in values), abs=1e-12), key
    with_development = results | bravo_metrics({"devobjs": [scene(3)], "newobjs": [scene(4)]})
    again = metrics.bravo_aggregates(with_development)
    assert again["bravo_index"] == results["bravo_index"]


def test_some_subsets_give_no_index():
    results = bravo_metrics({"SMIYC": [scene(0)], "synobjs": [scene(1)]})
    assert "ood_hmean" in results and "SMIYC_hmean" in results
    assert "semantic_hmean" not in results and "bravo_index" not in results


def test_results_can_be_written_as_json(images):
    accumulated = bravo_metrics(images)
    assert json.loads(json.dumps(accumulated)) == accumulated


@pytest.mark.parametrize("values", [[], [-0.1, 0.5], [np.nan, 0.5], [np.inf]])
def test_harmonic_mean_refuses(values):
    with pytest.raises(MetricsError):
        harmonic_mean(values)


# degenerate and wrong input


def test_no_error_no_success_no_invalid_pixel():
    gt, invalid, classes, confidence = scene(0)
    with pytest.raises(MetricsError, match="ACDCfog.*no valid pixel is predicted wrongly"):
        bravo_metrics([(gt, invalid, np.where(gt == 255, 0, gt), confidence)], subset="ACDCfog")
    with pytest.raises(MetricsError, match="synrain.*no valid pixel is predicted correctly"):
        bravo_metrics([(gt, invalid, (gt + 1) % 19, confidence)], subset="synrain")
    with pytest.raises(MetricsError, match="SMIYC.*no sampled pixel is invalid"):
        bravo_metrics([(gt, None, classes, confidence)], subset="SMIYC")
    with pytest.raises(MetricsError, match="SMIYC.*no sampled pixel is valid"):
        bravo_metrics([(gt, np.ones_like(invalid), classes, confidence)], subset="SMIYC")
    with pytest.raises(MetricsError, match="in 0 images"):
        bravo_metrics([])
    with pytest.raises(MetricsError, match="synobjs"):
        bravo_metrics({"ACDCfog": [scene(1)], "synobjs": []})


def test_images_without_labels_have_ood_metrics_only(images):
    unlabelled = [(None, i, c, p) for _, i, c, p in images]
    placeholder = [(np.zeros_like(c), i, c, p) for _, i, c, p in images]
    expected = bravo_metrics(placeholder, subset="SMIYC")
    assert bravo_metrics(unlabelled) == {key.removeprefix("SMIYC_"): x for key, x in expected.items()}
    with pytest.raises(MetricsError, match="no ground truth"):
        BravoAccumulator().update(*unlabelled[0]).update(*images[1]).compute()
    with pytest.raises(MetricsError, match="no ground truth"):
        (BravoAccumulator().update(*images[1]) + BravoAccumulator().update(*unlabelled[0])).compute()


@pytest.mark.parametrize("position", range(4))
def test_shapes_that_differ(position):
    image = list(scene(0))
    image[position] = image[position][:-1]
    with pytest.raises(MetricsError, match=r"synrain.*\(39, 60\)"):
        bravo_metrics([tuple(image)], subset="synrain")


@pytest.mark.parametrize(
    "image, words",
    [
        ((0, [[1], [1, 2]]), "not an array"),
        ((1, np.full(SHAPE, np.nan)), "invalid pixels of synflare.*NaN"),
        ((1, np.full(SHAPE, "a")), "invalid pixels of synflare"),
        ((2, np.zeros(SHAPE)), "classes of synflare have type float64"),
        ((3, np.zeros(SHAPE, np.uint8)), "confidences of synflare have type uint8"),
    ],
)
def test_maps_of_other_types(image, words):
    position, value = image
    with pytest.raises(MetricsError, match=words):
        bravo_metrics([[*scene(0)[:position], value, *scene(0)[position + 1 :]]], subset="synflare")


def test_images_are_maps_with_pixels():
    for shape in ((0, 4), (16,), (1, 4, 4)):
        with pytest.raises(MetricsError, match="pass maps"):
            bravo_metrics([(np.zeros(shape, int), None, np.zeros(shape, int), np.ones(shape))])
    for image in (scene(0)[:3], 3, scene(0)[0]):
        with pytest.raises(MetricsError, match="is a tuple"):
            bravo_metrics([image])


@pytest.mark.parametrize(
    "position, value, words",
    [
        (0, 19, r"ground truth.*\[19\]"),
        (2, 19, r"predicted classes.*\[19\]"),
        (2, 255, r"predicted classes.*\[255\]"),
        (3, 1.5, r"span .* to 1\.5"),
        (3, -0.5, "span -0.5"),
        (3, np.nan, "NaN"),
    ],
)
def test_values_out_of_range(position, value, words):
    image = list(scene(0))
    image[position] = image[position].copy()
    image[position][3, 3] = value
    accumulator = BravoAccumulator("synflare")
    with pytest.raises(MetricsError, match=f"(?=.*synflare).*{words}"):
        accumulator.update(*image)
    assert accumulator.images == 0 and accumulator.confusion.sum() == 0


def test_types_that_are_refused():
    gt, invalid, classes, confidence = scene(0)
    with pytest.raises(MetricsError, match="uint8"):
        bravo_metrics([(gt, invalid, classes, (confidence * 255).astype(np.uint8))])
    with pytest.raises(MetricsError, match="float32"):
        bravo_metrics([(gt, invalid, classes.astype(np.float32), confidence)])
    with pytest.raises(MetricsError, match="span"):
        bravo_metrics([(gt, invalid, classes, (confidence * 65535).astype(np.int32) * 2)])


def test_unknown_subset_and_task(images):
    with pytest.raises(MetricsError, match="no BRAVO subset 'fog'.*ACDCfog"):
        bravo_metrics(images, subset="fog")
    with pytest.raises(MetricsError, match="leave out"):
        bravo_metrics({"ACDCfog": images}, subset="ACDCfog")
    with pytest.raises(MetricsError, match="no task 'valid'"):
        BravoAccumulator().update(*images[0]).roc_curve("valid")


# curves


@pytest.mark.parametrize("task, key", [("ood", "auroc_ood"), ("success", "auroc_valid"), ("error", "auroc_valid")])
def test_roc_curve_is_thin_and_keeps_its_area(images, task, key):
    accumulator = BravoAccumulator()
    for image in images:
        accumulator.update(*image)
    fpr, tpr = accumulator.roc_curve(task)
    assert len(fpr) == len(tpr) <= 500
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(accumulator.compute(ood=True)[key], abs=2e-3)


@pytest.mark.parametrize(
    "task, key",
    [("ood", "auprc_ood"), ("success", "auprc_success_valid"), ("error", "auprc_error_valid")],
)
def test_pr_curve_is_thin_and_keeps_its_area(images, task, key):
    accumulator = BravoAccumulator()
    for image in images:
        accumulator.update(*image)
    recall, precision = accumulator.pr_curve(task)
    assert len(recall) == len(precision) <= 500
    assert (recall[0], recall[-1]) == (0, 1) and (np.diff(recall) >= 0).all()
    area = np.trapezoid(precision, recall)
    assert area == pytest.approx(accumulator.compute(ood=True)[key], abs=5e-3)


def test_ranking_functions_work_row_by_row():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 5, (2, 4, 50))
    for function in (ranking.auroc, ranking.average_precision, ranking.fpr_at_tpr):
        rows = [function(p, n) for p, n in zip(positive, negative, strict=True)]
        np.testing.assert_allclose(function(positive, negative), rows, rtol=0, atol=1e-15)
        assert np.isnan(function(positive[0], np.zeros(50)))
        assert np.isnan(function(np.zeros(50), negative[0]))
