"""The protocol's draw against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest

from iood_helpers.bravo import sampling


def numpys_draw(n, limit):
    return np.sort(np.random.RandomState(1).permutation(n)[:limit])


# around powers of two NumPy changes how many bits of a word it looks at; the last one needs more words than are kept
@pytest.mark.parametrize("n", [2, 3, 255, 256, 257, 65_536, 65_537, 100_001, 1_900_000, 3_000_000])
def test_the_draw_is_numpys(n):
    for limit in {1, n // 2, n - 1, min(n - 1, 100_000)}:
        np.testing.assert_array_equal(sampling.draw(n, limit), numpys_draw(n, limit))


def test_more_words_are_fetched_where_they_do_not_suffice(monkeypatch):
    asked = []

    def few(size):
        asked.append(size)
        return np.random.RandomState(1).randint(0, 1 << 32, 1 << (size - 8), dtype=np.uint32)

    monkeypatch.setattr(sampling, "_words", few)
    np.testing.assert_array_equal(sampling.draw(100_000, 10), numpys_draw(100_000, 10))
    assert asked == [22, 23, 24, 25, 26]
