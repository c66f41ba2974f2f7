"""glibc's allocator, told to keep what was freed: training reuses its tensors' memory instead of faulting it in again.

On two cores this nearly doubles the speed of training. It lasts for the life of the process, and does nothing where
there is no glibc.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # malloc.h


def keep_freed_memory() -> None:
    """Never give freed memory back to the kernel, never allocate by mmap, and share one arena among all threads."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 256 * 2**20)
