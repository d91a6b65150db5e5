"""Freed memory is kept, or given back."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from iood_helpers import load_segmenter
from iood_helpers.model.fast import malloc
from iood_helpers.model.fast.malloc import is_worthwhile, keep_freed_memory


def faults_of(work) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_kept_memory_is_not_fetched_again():
    def work():
        for _ in range(20):
            torch.ones(8_000_000)

    try:
        assert keep_freed_memory()
        work()
        kept = faults_of(work)
        assert keep_freed_memory(False)
        assert faults_of(work) > 10 * max(kept, 10)
    finally:
        keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert keep_freed_memory() is False


def test_large_networks_are_left_to_the_defaults_unless_the_user_decides(monkeypatch):
    monkeypatch.delenv("IOOD_KEEP_MEMORY", raising=False)
    assert is_worthwhile(1_500_000) and not is_worthwhile(368_000_000)
    monkeypatch.setenv("IOOD_KEEP_MEMORY", "1")
    assert is_worthwhile(368_000_000)
    monkeypatch.setenv("IOOD_KEEP_MEMORY", "0")
    assert not is_worthwhile(1_500_000)


@pytest.mark.parametrize("limit, calls", [(10_000_000, 1), (1_000_000, 0)])
def test_loading_asks_whether_it_is_worthwhile(monkeypatch, limit, calls):
    monkeypatch.delenv("IOOD_KEEP_MEMORY", raising=False)
    monkeypatch.setattr(malloc, "MAX_PARAMETERS", limit)
    asked = []
    monkeypatch.setattr("iood_helpers.model.segmenter.keep_freed_memory", lambda: asked.append(1))
    load_segmenter("nano", device="cpu")
    assert len(asked) == calls
