"""Counts of what a model got right and wrong, image by image in constant memory.

Three histograms of 65 536 confidence levels (valid pixels predicted correctly, valid ones predicted wrongly,
invalid ones) and a confusion matrix hold all that the metrics need; adding merges what workers have seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..checks import LEVELS, class_map, confidence_levels, mask
from ..compiled import compiled
from ..datasets.labels import NUM_CLASSES, VOID
from ..errors import MetricsError
from . import histograms
from .counts import Counts
from .sampling import sample_pixels


def per_class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class: TP / (row + column - TP).

    Parameters
    ----------
    confusion : array of counts, shape (..., C, C)
        Rows: ground truth; columns: prediction.

    Returns
    -------
    ndarray of float, shape (..., C)
        0..1; NaN for a class that occurs in neither.

    Examples
    --------
    >>> per_class_iou([[3, 1], [0, 4]]).tolist()
    [0.75, 0.8]
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(axis=-1) + confusion.sum(axis=-2) - hit
    return np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)


@compiled(nogil=True)
def _count_pairs(gt: np.ndarray, classes: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Pixels by ground truth (rows) and prediction (columns), without void and invalid ones; maps are flat uint8."""
    counts = np.zeros((4, NUM_CLASSES, NUM_CLASSES), np.int64)  # neighbours are alike: in turn, none waits for the last
    for i in range(len(gt)):
        if gt[i] != VOID and not invalid[i]:
            counts[i & 3, gt[i], classes[i]] += 1
    return counts.sum(0)


class ReliabilityCurve(NamedTuple):
    """Mean confidence and accuracy (NaN if empty) and share of pixels per confidence bin; shape (bins,)."""

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray


class BravoAccumulator(Counts):
    """Counts from which all metrics of one set of images follow; 1.6 MB, however many images it has seen.

    Parameters
    ----------
    name : str, optional
        Subset or split, for error messages.

    Attributes
    ----------
    correct, wrong, invalid : ndarray of int64, shape (65536,)
        Sampled pixels per confidence level: valid ones with a right and a wrong prediction, invalid ones.
    confusion : ndarray of int64, shape (19, 19)
        All valid pixels; rows: ground truth, columns: prediction.
    images : int
    labelled : bool
        False once an image came without ground truth: semantic metrics are then out of reach.
    """

    def __init__(self, name: str | None = None):
        self.name = name
        self.correct, self.wrong, self.invalid = (np.zeros(LEVELS, dtype=np.int64) for _ in range(3))
        self.confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
        self.images = 0
        self.labelled = True

    def update(self, gt: Any, invalid: Any, classes: Any, confidence: Any, void: Any = None) -> BravoAccumulator:
        """Count one image.

        Parameters
        ----------
        gt : array or tensor of int, shape (H, W), or None
            Train ids 0..18, 255 for void. None: no label map, all pixels count, for OOD metrics only.
        invalid : array or tensor, shape (H, W), or None
            Not zero (True) for invalid (OOD) pixels. None: there are none.
        classes : array or tensor of int, shape (H, W)
            Predicted train ids 0..18.
        confidence : array or tensor, shape (H, W)
            Floats 0..1, rounded to levels by ``round(c * 65535)``; or the levels 0..65535 themselves, as
            integers of 16 bits or more.
        void : array or tensor, shape (H, W), optional
            Not zero (True) for further pixels that count nowhere, as ``Sample.void`` gives them.

        Returns
        -------
        BravoAccumulator
            Itself.

        Raises
        ------
        MetricsError
            If shapes differ or values are out of range; nothing is counted then.
        """
        classes, levels = _array(classes), _array(confidence)
        labelled = gt is not None
        gt = _array(gt) if labelled else np.zeros(classes.shape, dtype=np.uint8)
        invalid, void = (
            np.zeros(classes.shape, bool) if one is None else mask(_array(one), f"{what}{self._of()}", MetricsError)
            for one, what in ((invalid, "The map of invalid pixels"), (void, "The map of void pixels"))
        )
        shapes = {"gt": gt, "invalid": invalid, "classes": classes, "confidence": levels, "void": void}
        if len({array.shape for array in shapes.values()}) > 1:
            shown = ", ".join(f"{key} {array.shape}" for key, array in shapes.items())
            raise MetricsError(f"The arrays of one image differ in shape{self._of()}: {shown}; resize them first.")
        if classes.ndim != 2 or not classes.size:
            raise MetricsError(f"An image{self._of()} has the shape {classes.shape}; pass maps (H, W) with pixels.")
        class_map(gt, f"The labels of the ground truth{self._of()}", MetricsError, void=True)
        class_map(classes, f"The predicted classes{self._of()}", MetricsError)
        if void.any():
            gt = np.where(void, VOID, gt)
        indices = sample_pixels(gt)
        gt, invalid, classes = gt.ravel(), invalid.ravel(), classes.ravel()
        levels = confidence_levels(levels, f"The confidences{self._of()}", MetricsError, indices)

        right, ood = gt[indices] == classes[indices], invalid[indices]
        self.confusion += _count_pairs(gt.astype(np.uint8, copy=False), classes.astype(np.uint8, copy=False), invalid)
        self.correct += np.bincount(levels[right & ~ood], minlength=LEVELS)
        self.wrong += np.bincount(levels[~right & ~ood], minlength=LEVELS)
        self.invalid += np.bincount(levels[ood], minlength=LEVELS)
        self.images += 1
        self.labelled &= labelled
        return self

    def merge(self, other: BravoAccumulator) -> BravoAccumulator:
        """Add the counts of ``other``, which stays as it is; returns itself. ``a + b`` makes a new one."""
        self.correct += other.correct
        self.wrong += other.wrong
        self.invalid += other.invalid
        self.confusion += other.confusion
        self.images += other.images
        self.labelled &= other.labelled
        self.name = self.name or other.name
        return self

    @classmethod
    def total(cls, parts: Iterable[BravoAccumulator]) -> BravoAccumulator:
        """Sum of the counts of all parts, under the name of the first; the parts stay as they are."""
        whole = cls()
        for part in parts:
            whole.merge(part)
        return whole

    def __add__(self, other: BravoAccumulator) -> BravoAccumulator:
        return BravoAccumulator(self.name).merge(self).merge(other)

    def compute(self, semantic: bool = True, ood: bool = False) -> dict[str, Any]:
        """Metrics of all images counted so far.

        Parameters
        ----------
        semantic, ood : bool
            Which of the two groups of metrics to compute.

        Returns
        -------
        dict
            ``metrics.SEMANTIC_METRICS`` and ``iou_valid``, or ``metrics.OOD_METRICS``, or both.

        Raises
        ------
        MetricsError
            If a metric is not defined: no valid or no invalid pixel, no wrong or no correct one, no labels.
        """
        results: dict[str, Any] = {}
        if semantic:
            self._need(self.labelled, "an image has no ground truth", "give labels, or compute OOD metrics only")
            self._need(self.correct.any(), "no valid pixel is predicted correctly", "check labels and predictions")
            self._need(self.wrong.any(), "no valid pixel is predicted wrongly", "add images")
            iou = per_class_iou(self.confusion)
            results |= {"miou_valid": float(np.nanmean(iou)), "iou_valid": iou.tolist()}
            sums = histograms.bin_sums(self.correct, self.wrong)
            scalars = {"ece_valid": histograms.calibration_error(sums)}
            results |= _floats(scalars | histograms.semantic_ranking(self.correct, self.wrong))
        if ood:
            self._need(self.invalid.any(), "no sampled pixel is invalid (OOD)", "add images with invalid pixels")
            valid = self.correct + self.wrong
            self._need(valid.any(), "no sampled pixel is valid", "check the masks")
            results |= _floats(histograms.ood_ranking(self.invalid, valid))
        return results

    def reliability_curve(self) -> ReliabilityCurve:
        """Accuracy against confidence in the 15 bins of the ECE, for valid pixels."""
        self._need(self.labelled and (self.correct + self.wrong).any(), "no valid pixel has a label", "add images")
        sums = histograms.bin_sums(self.correct, self.wrong)
        with np.errstate(invalid="ignore"):
            return ReliabilityCurve(
                sums.confidence / sums.pixels, sums.correct / sums.pixels, sums.pixels / sums.pixels.sum()
            )

    def roc_curve(self, task: str = "ood", points: int = 500) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rates for plotting, at most ``points`` of them.

        Parameters
        ----------
        task : {"ood", "success", "error"}
            Find invalid pixels, correct ones by high confidence, or wrong ones by low confidence.
        points : int
            The most points to return.

        Returns
        -------
        (fpr, tpr) : two float arrays, shape (n,)
        """
        return histograms.roc_points(*self._histograms(task), points)

    def pr_curve(self, task: str = "ood", points: int = 500) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision for plotting; parameters as for ``roc_curve``."""
        return histograms.precision_recall_points(*self._histograms(task), points)

    def _histograms(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Counts of positives and negatives, ordered by rising score."""
        pairs = {
            "ood": (self.invalid[::-1], (self.correct + self.wrong)[::-1]),
            "success": (self.correct, self.wrong),
            "error": (self.wrong[::-1], self.correct[::-1]),
        }
        if task not in pairs:
            raise MetricsError(f"There is no task {task!r}; choose 'ood', 'success' or 'error'.")
        self._need(all(part.any() for part in pairs[task]), f"the {task} task lacks one side", "add images")
        return pairs[task]


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # NumPy has no bfloat16
        values = values.float() if values.is_floating_point() else values
        return values.numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise MetricsError(f"A map is not an array ({error}); pass arrays (H, W).") from error


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items()}
