"""How glibc's allocator treats large blocks."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of <malloc.h>
KEPT_BYTES = 2**31 - 1  # at the end of the heap, before any goes back
TOP_PAD_BYTES = 2**26
SET_BY_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have this process reuse what it frees; returns whether that is set.

    By default glibc returns each large block to the kernel, and for the next one the kernel clears new pages. A
    training step on the CPU takes and frees hundreds of megabytes; up to a third of its time went into that. Nothing
    is set where the C library is another one, or where the user's environment variables say how it shall work.
    """
    if any(name in os.environ for name in SET_BY_THE_USER):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # macOS, Windows, musl
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEPT_BYTES, M_TOP_PAD: TOP_PAD_BYTES}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
