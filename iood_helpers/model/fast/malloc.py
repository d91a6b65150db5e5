"""What the C library does with freed memory.

A forward pass on the CPU makes and frees hundreds of maps of many megabytes. glibc fetches each from the system and
gives it back, and the system clears every page again: up to a fifth of the time. Kept memory is reused instead; the
process then stays at the size that its largest moment needed, and somewhat above: maps of several sizes leave gaps.

Large networks spend little of their time on pages and much memory on gaps (XL on 1024 x 2048 pixels: 5.7 GiB instead of
3.5), so they are left to the defaults. ``IOOD_KEEP_MEMORY=1`` or ``=0`` in the environment decides for all.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # glibc's names for these options: M_TRIM_THRESHOLD and M_MMAP_MAX
MAX_PARAMETERS = 100_000_000
"""Networks with more weights are left to the defaults."""

DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX, NEVER = 128 * 1024, 65_536, 2**31 - 1


def is_worthwhile(parameters: int) -> bool:
    """Whether a network of this many weights runs better with kept memory; ``IOOD_KEEP_MEMORY`` (0 or 1) overrules."""
    chosen = os.environ.get("IOOD_KEEP_MEMORY", "")
    return chosen == "1" if chosen in ("0", "1") else parameters <= MAX_PARAMETERS


def keep_freed_memory(keep: bool = True) -> bool:
    """Keep freed memory for reuse, or go back to glibc's defaults.

    Returns
    -------
    bool
        Whether it was done: only glibc on Linux can.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    options = {
        TRIM_THRESHOLD: NEVER if keep else DEFAULT_TRIM_THRESHOLD,
        MMAP_MAX: 0 if keep else DEFAULT_MMAP_MAX,
    }
    done = all([libc.mallopt(option, value) for option, value in options.items()])
    if not keep:
        libc.malloc_trim(0)
    return bool(done)
