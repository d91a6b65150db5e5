"""Damaged and hostile files at every loader; see ``fuzzing``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fuzzing.harness import SHARES, Result, run_all, run_loader, told

CASES = int(os.environ.get("IOOD_FUZZ_CASES", "3000"))
SEED = int(os.environ.get("IOOD_FUZZ_SEED", "0"))

EXPECTED = {
    "foreign": "KeyError",
    "nameless": "the error does not name the file",
    "implausible": "accepted",
    "system": "did what no file may make it do",
    "swallowed": "did what no file may make it do",
    "program": "did what no file may make it do",
    "network": "did what no file may make it do",
    "outside": "did what no file may make it do",
    "secret": "did what no file may make it do",
    "changed": "a reader changed files",
    "slow": "took more than",
    "crash": "the worker died",
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """What the harness says of a loader that fails in every way."""
    keep = tmp_path_factory.mktemp("broken")
    return run_loader("broken", 0, 0, 17, keep, seconds=1.0), keep


def test_the_harness_notices_every_kind_of_fault(broken):
    result, _ = broken
    kinds = {fault["what"]: fault["kind"] for fault in result.faults.values()}
    for way, kind in EXPECTED.items():
        assert kinds[way].startswith(kind), way
    assert {"memory", "late"} <= kinds.keys() or not Path("/proc/self/statm").exists()


def test_a_worker_that_dies_costs_its_case_only(broken):
    result, _ = broken
    # the last case starts the round again
    assert result.loaded == 2 and result.refused == 1


def test_the_files_of_a_failing_case_are_kept(broken):
    result, keep = broken
    index = next(index for index, fault in result.faults.items() if fault["what"] == "foreign")
    assert (keep / f"broken-0-{index}" / "case" / "file").read_text() == "x"
    assert f"--loader broken --seed 0 --case {index}" in told({"broken": result}, 0)


def test_the_same_seed_gives_the_same_cases(tmp_path):
    first, second = (run_loader("submission", 3, 0, 40, tmp_path) for _ in range(2))
    assert (first.loaded, first.refused) == (second.loaded, second.refused)
    assert first.loaded and first.refused


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, Result]:
    """All loaders."""
    return run_all(CASES, SEED, tmp_path_factory.mktemp("faults"), jobs=os.cpu_count() or 1)


@pytest.mark.parametrize("loader", SHARES)
def test_a_damaged_file_is_read_as_it_was_or_refused_by_name(results, loader):
    result = results[loader]
    assert not result.faults, told({loader: result}, SEED)
    # cases that all end the same way would prove nothing
    assert result.loaded and result.refused
