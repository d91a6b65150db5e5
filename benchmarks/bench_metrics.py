"""BRAVO metrics from histograms against pooled arrays and scikit-learn, on sampled or on all pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from measuring import compare, report
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from iood_helpers.bravo import accumulator
from iood_helpers.bravo.accumulator import BravoAccumulator, per_class_iou
from iood_helpers.bravo.sampling import SAMPLED_PIXELS
from iood_helpers.datasets.labels import VOID

IMAGES, SIZE = 40, (1024, 2048)


def sampled(label: np.ndarray) -> np.ndarray:
    """The protocol's draw as the protocol says it."""
    np.random.seed(1)
    return np.sort(np.random.choice(np.flatnonzero(label != VOID), SAMPLED_PIXELS, replace=False))


def not_void(label: np.ndarray) -> np.ndarray:
    """All pixels that count."""
    return np.flatnonzero(label != VOID)


def make_image(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, mask of unknown objects, predicted classes and 16-bit confidence of an image."""
    rng = np.random.default_rng(seed)
    label = np.kron(rng.integers(0, 19, (8, 16)), np.ones((128, 128), int)).astype(np.uint8)
    invalid = np.zeros(SIZE, bool)
    invalid[400:520, 900:1100] = True
    predicted = np.where(rng.random(SIZE, np.float32) < 0.9, label, (label + 1) % 19).astype(np.uint8)
    confidence = rng.random(SIZE, np.float32) ** (0.3 + 0.7 * ((predicted != label) | invalid))
    return label, invalid, predicted, (confidence * 65535).astype(np.uint16)


def plain(images: list, choose: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Chosen pixels of all images in one array each, and one function of scikit-learn per metric."""
    chosen = [choose(image[0]) for image in images]
    label, invalid, predicted, confidence = (
        np.concatenate([image[part].ravel()[rows] for image, rows in zip(images, chosen, strict=True)])
        for part in range(4)
    )
    right, sure = (predicted == label)[~invalid], confidence[~invalid] / 65535
    uncertainty = 1 - confidence / 65535
    whole = [np.concatenate([image[part][~image[1]] for image in images]) for part in (0, 2)]

    def fpr95(truth: np.ndarray, score: np.ndarray) -> float:
        fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
        return float(fpr[np.searchsorted(tpr, 0.95)])

    return {
        "miou_valid": float(per_class_iou(confusion_matrix(*whole, labels=np.arange(19))).mean()),
        "auroc_valid": roc_auc_score(right, sure),
        "auprc_success_valid": average_precision_score(right, sure),
        "auprc_error_valid": average_precision_score(~right, 1 - sure),
        "fpr95_valid": fpr95(right, sure),
        "auroc_ood": roc_auc_score(invalid, uncertainty),
        "auprc_ood": average_precision_score(invalid, uncertainty),
        "fpr95_ood": fpr95(invalid, uncertainty),
    }


def ours(images: list) -> dict[str, float]:
    """Image by image."""
    counts = BravoAccumulator("synobjs")
    for image in images:
        counts.update(*image)
    return counts.compute(semantic=True, ood=True)


def main() -> None:
    images = [make_image(seed) for seed in range(IMAGES)]
    cases = (("100 000 pixels of each count", images, sampled), ("all pixels count", images[:4], not_void))
    for what, chosen, choose in cases:
        if choose is not_void:
            accumulator.sample_pixels = not_void
        wanted, got = plain(chosen, choose), ours(chosen)
        agreement = f"largest difference {max(abs(wanted[k] - got[k]) for k in wanted):.0e}"
        what = f"BRAVO metrics, {len(chosen)} images of {SIZE[0]} x {SIZE[1]}, {what}"
        ways = (lambda c=chosen, p=choose: plain(c, p)), (lambda c=chosen: ours(c))
        report([compare(what, *ways, agreement)])


if __name__ == "__main__":
    main()
