"""Keep freed memory in the process: steps on a CPU free and allocate hundreds of megabytes."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT = 1 << 30  # bytes
_LARGEST = 32 << 20  # bytes, the most that glibc takes


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory in this process, whose page faults cost more than many layers; needs glibc.

    Returns whether it is kept. Tensors above 32 MiB are returned to the system all the same.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_MMAP_THRESHOLD, _LARGEST), mallopt(_TRIM_THRESHOLD, _KEPT)])
