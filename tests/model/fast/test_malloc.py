"""Freed memory is kept, or given back."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from iood_helpers.model.fast.malloc import keep_freed_memory


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
