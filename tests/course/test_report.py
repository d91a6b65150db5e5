"""The verdicts of the report."""

from __future__ import annotations

import pytest

from iood_helpers.course.report import PUBLISHED, is_official, report

MEASURED = {
    **{f"{rule}_{key}": value for rule, row in PUBLISHED.items() for key, value in row.items()},
    "raw_bravo_index": 0.6,
    "published_bravo_index": 0.61,
    "published_gain_low": -0.01,
    "published_gain_high": 0.02,
    "calibrated_bravo_index": 0.7,
    "calibrated_gain_low": 0.05,
    "calibrated_gain_high": 0.15,
    "fused_bravo_index": 0.5,
    "fused_gain_low": -0.2,
    "fused_gain_high": -0.05,
    "surplus_bravo_index": 0.5,
    "encoded_difference": 0.0,
}


def verdicts(official=True, **changes):
    return {row.what: row for row in report({**MEASURED, **changes}, official=official)}


def test_values_are_compared_on_the_data_of_the_challenge_only():
    found = verdicts()
    assert found["OOD mean without KMeans"][1:] == (0.5621, 0.5621, "reproduced")
    assert found["Bravo Index without KMeans"].verdict == "differs by -0.0208"
    assert verdicts(raw_ood_hmean=0.5621 + 0.0049)["OOD mean without KMeans"].verdict == "reproduced"
    assert verdicts(raw_ood_hmean=None)["OOD mean without KMeans"].verdict == "not measured"
    elsewhere = verdicts(official=False)
    assert all(
        "cannot be compared" in row.verdict for what, row in elsewhere.items() if row.published and "gain" not in what
    )
    assert elsewhere["gain by the published step"] == found["gain by the published step"]


def test_gains_are_what_their_intervals_say():
    found = verdicts()
    assert found["gain by the published step"].published == pytest.approx(0.0055)
    words = {what: row.verdict for what, row in found.items() if what.startswith("gain")}
    assert words == {
        "gain by the published step": "nothing beyond chance",
        "gain by the calibrated rule": "a gain beyond chance",
        "gain by the fused rule": "a loss beyond chance",
        "gain by the surplus rule": "too few images for an interval",
    }
    assert found["gain by the calibrated rule"].measured == pytest.approx(0.1)
    assert verdicts(raw_bravo_index=None)["gain by the fused rule"].verdict == "not measured"


def test_a_file_with_other_numbers_is_not_to_be_sent():
    what = "submission file against maps"
    assert verdicts()[what].verdict == "the same numbers"
    assert "do not submit" in verdicts(encoded_difference=1e-4)[what].verdict
    assert verdicts(encoded_difference=None)[what].verdict == "not measured"


def test_official_is_the_network_and_the_images():
    assert is_official("internimage-xl-cityscapes", ["bravo/SMIYC"])
    assert not is_official("nano", ["bravo/SMIYC"]) and not is_official("internimage-xl-cityscapes", ["mini/SMIYC"])
    assert not is_official("internimage-xl-cityscapes", ["bravo/SMIYC", "mini/SMIYC"])
    assert not is_official("internimage-xl-cityscapes", [])
