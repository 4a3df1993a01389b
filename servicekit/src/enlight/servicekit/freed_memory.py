"""Memory of large bodies that is used again instead of being given back to the system and asked for anew.

glibc maps large blocks one by one and gives them back when they are freed, and trims the end of its heap. The system
then hands out zeroed pages for the next body, one fault for every 4 KiB: for bodies of several megabytes that takes
longer than receiving them.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
"""Names of `mallopt` in glibc's malloc.h."""
MAPPED_FROM_BYTES = 32 << 20
"""glibc takes no more."""
KEPT_BYTES = 128 << 20
"""At the end of each of the allocator's heaps; what is freed beyond it goes back to the system."""


def keep_freed_memory() -> bool:
    """Has blocks below 32 MiB come from the heap and freed ones stay there; False under another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, MAPPED_FROM_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
