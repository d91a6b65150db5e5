"""The protocol's draw of pixels: just the ones that NumPy's legacy generator gives, found a cheaper way.

The protocol keeps ``RandomState(1).choice(indices, 100000, replace=False)`` of each image: NumPy shuffles all indices
from the back to the front and keeps the first ones. Which places end up in front can be found without moving anything:
walk through the exchanges the other way round and follow the places that will be kept. One byte per pixel suffices, and
the places come out in order. All images start from the same seed, so the random words are made once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..compiled import compiled
from ..datasets.labels import VOID

SAMPLED_PIXELS = 100_000
"""Pixels per image that enter the metrics of ranking and calibration."""

SEED = 1
LEAST_WORDS = 22
"""Binary logarithm of the number of random words that are kept: 16 MB, enough for images of 2.7 million pixels."""


def sample_pixels(gt: np.ndarray, limit: int = SAMPLED_PIXELS) -> np.ndarray:
    """Pixels of one image that enter the metrics of ranking: all non-void ones, or ``limit`` drawn from them.

    Parameters
    ----------
    gt : ndarray of int, any shape
        Train ids; 255 is void.
    limit : int
        The most pixels to return.

    Returns
    -------
    ndarray of int64, shape (n,)
        Sorted indices into the flattened ground truth. The draw is the protocol's: NumPy's legacy generator
        started with seed 1 for each image (the global generator is left alone).
    """
    indices = np.flatnonzero(gt != VOID)
    if indices.size > limit:
        indices = indices[draw(indices.size, limit)]
    return indices


def draw(n: int, limit: int) -> np.ndarray:
    """``np.sort(np.random.RandomState(1).permutation(n)[:limit])`` for 0 < limit < n: (limit,) int64."""
    # On average 1.47 words per pixel at most are needed, as those out of range are thrown away.
    size = max(LEAST_WORDS, (3 * n // 2).bit_length())
    while (places := _partners(_words(size), n, limit)) is None:
        size += 1
    return np.flatnonzero(_kept(places, limit))


@lru_cache(maxsize=1)
def _words(size: int) -> np.ndarray:
    """The first ``2 ** size`` words of the generator."""
    return np.random.RandomState(SEED).randint(0, 1 << 32, 1 << size, dtype=np.uint32)


@compiled(nogil=True)
def _partners(words: np.ndarray, n: np.int64, limit: np.int64) -> np.ndarray | None:
    """Place with which each place from ``limit`` on is exchanged, as NumPy draws them: from the last to the first.

    None if the words do not suffice.
    """
    partners = np.empty(n, np.int32)
    place, word = n - 1, np.int64(0)
    mask = np.uint32(1)
    while mask < place:
        mask = (mask << np.uint32(1)) | np.uint32(1)
    while place >= limit:
        last = max(limit - 1, np.int64(mask >> np.uint32(1)))  # down to here the mask is the right one
        while place > last:
            least = place - last  # words that are needed even if none is out of range
            if word + least > len(words):
                return None
            for drawn in words[word : word + least]:
                partner = np.int64(drawn & mask)
                partners[place] = partner
                place -= np.int64(partner <= place)  # out of range: the next word overwrites it
            word += least
        mask >>= np.uint32(1)
    return partners


@compiled(nogil=True)
def _kept(partners: np.ndarray, limit: np.int64) -> np.ndarray:
    """Which places hold what a shuffle brings to the first ``limit`` ones: the exchanges, last one first."""
    kept = np.zeros(len(partners), np.bool_)
    kept[:limit] = True
    for place in range(limit, len(partners)):
        partner = partners[place]
        here = kept[partner]
        kept[partner] = False
        kept[place] = here
    return kept
