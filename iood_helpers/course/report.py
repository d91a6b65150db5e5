"""What was published beside what a run has measured, with a verdict for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

PUBLISHED = {
    "raw": {"semantic_hmean": 0.6933, "ood_hmean": 0.5621, "bravo_index": 0.6208},
    "published": {"semantic_hmean": 0.6934, "ood_hmean": 0.5710, "bravo_index": 0.6263},
}
"""The entry to the BRAVO Challenge 2024 without and with its KMeans step (Vu et al., arXiv:2409.15107)."""

CLOSE = 0.005
"""Two results this far apart at most agree: about what the published step changes."""

SAME = 1e-9
"""Metrics from the packed file and from the maps: sums of the same integers."""

NAMES = {"semantic_hmean": "semantic mean", "ood_hmean": "OOD mean", "bravo_index": "Bravo Index"}
RULES = {"raw": "without KMeans", "published": "with the published step"}
OWN_RULES = ("calibrated", "fused", "surplus")


class Row(NamedTuple):
    """One line of a report; None where nothing was published or measured."""

    what: str
    published: float | None
    measured: float | None
    verdict: str


def is_official(checkpoint: str, splits: Sequence[str]) -> bool:
    """Whether a run is on the network and the images of the challenge."""
    return "internimage-xl" in checkpoint and bool(splits) and all(split.startswith("bravo/") for split in splits)


def report(measured: Mapping[str, float | None], *, official: bool) -> list[Row]:
    """Compare the metrics of notebook 06 with what was published.

    Parameters
    ----------
    measured : mapping of str to float or None
        ``read_metrics(run, "06_score_on_bravo")``.
    official : bool
        Whether the run is on the network and the images of the challenge: only then values can be compared. A change
        from one rule to another can be compared anywhere, in its direction.
    """
    rows = [
        Row(f"{NAMES[key]} {words}", value, found := measured.get(f"{rule}_{key}"), _compared(value, found, official))
        for rule, words in RULES.items()
        for key, value in PUBLISHED[rule].items()
    ]
    before, after = (PUBLISHED[rule]["bravo_index"] for rule in RULES)
    rows.append(Row("gain by the published step", after - before, *_gain(measured, "published")))
    rows += [Row(f"gain by the {rule} rule", None, *_gain(measured, rule)) for rule in OWN_RULES]
    packed = measured.get("encoded_difference")
    return [*rows, Row("submission file against maps", None, packed, _packed(packed))]


def _packed(difference: float | None) -> str:
    if difference is None:
        return "not measured"
    return "the same numbers" if difference < SAME else "other numbers: do not submit it"


def _compared(published: float, measured: float | None, official: bool) -> str:
    if measured is None:
        return "not measured"
    if not official:
        return "cannot be compared: other network and images"
    return "reproduced" if abs(measured - published) <= CLOSE else f"differs by {measured - published:+.4f}"


def _gain(measured: Mapping[str, float | None], rule: str) -> tuple[float | None, str]:
    """Change of the index against the raw confidence, and what its 95 % interval says."""
    before, after = measured.get("raw_bravo_index"), measured.get(f"{rule}_bravo_index")
    low, high = (measured.get(f"{rule}_gain_{end}") for end in ("low", "high"))
    if before is None or after is None:
        return None, "not measured"
    if low is None or high is None:
        return after - before, "too few images for an interval"
    if low > 0:
        return after - before, "a gain beyond chance"
    return after - before, "a loss beyond chance" if high < 0 else "nothing beyond chance"
