"""numba is required, and compiles also where it can write no cache."""

from __future__ import annotations

import subprocess
import sys

import pytest

from iood_helpers import compiled


def test_without_a_place_for_a_cache_functions_are_compiled_all_the_same(monkeypatch):
    asked = []

    def njit(**options):
        asked.append(options)
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled, "njit", njit)
    assert compiled.compiled(nogil=True)(abs)(-3) == 3
    assert asked[-1] == {"nogil": True} and len(asked) == 2


@pytest.mark.parametrize("module", ["dcnv3", "bravo.sampling", "bravo.accumulator"])
def test_numba_is_required_wherever_something_is_compiled(module):
    """It is a declared dependency; without it, an import says so, and nothing runs slowly in silence."""
    code = f"import sys; sys.modules['numba'] = None; import iood_helpers.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode and done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of numba")
