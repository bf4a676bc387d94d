"""How the C library deals with freed memory, which steps on a CPU free and take again by the hundred megabytes."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT = 1 << 30  # bytes
_LARGEST = 32 << 20  # bytes, the most that glibc takes


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory, for its pages cost more than many a layer; needs glibc.

    Tell whether it does from now on. Tensors above 32 MiB are given back all the same.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_MMAP_THRESHOLD, _LARGEST), mallopt(_TRIM_THRESHOLD, _KEPT)])
