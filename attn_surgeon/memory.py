"""Available memory, and errors for requests that need more, raised before anything is allocated."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from attn_surgeon.errors import MemoryLimitError, excerpt

_UNKNOWN = 2**63


def available_memory() -> int:
    """Return the bytes that this process can still allocate on the machine or in its container."""
    return min(_machine_memory(), _container_memory())


def limit_memory(size: int) -> None:
    """Limit this process to a number of bytes, so that allocations fail instead of the system killing a process."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (size if most == resource.RLIM_INFINITY else min(size, most), most))


def limit_to_machine() -> None:
    """Limit this process to the machine's memory, unless there is a GPU, whose memory would count as well."""
    total = min(_machine_memory("MemTotal"), _container_memory(used=0))
    if total < _UNKNOWN and not any(Path("/dev").glob("nvidia*")):
        limit_memory(total)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be allocated."""
    text = str(error)
    return isinstance(error, MemoryError) or "DefaultCPUAllocator" in text or "out of memory" in text.lower()


def require_memory(needed: int, what: str, where: str = "", hint: str = "") -> None:
    """Raise MemoryLimitError if something needs more bytes than are available.

    >>> require_memory(10**30, "a batch of images", hint="use smaller ones")
    Traceback (most recent call last):
        ...
    attn_surgeon.errors.MemoryLimitError: a batch of images needs ...
    """
    if needed > (available := available_memory()):
        raise MemoryLimitError(f"{what} needs {_size(needed)} of memory, and {_size(available)} are free", where, hint)


def size_of_tensors(shapes: Iterable[Iterable[int]], item: int = 4) -> int:
    """Return the total size in bytes of tensors of these shapes, with `item` bytes per element.

    >>> size_of_tensors([(1, 3, 224, 224)])
    602112
    """
    return item * sum(math.prod(shape) for shape in shapes)


def _size(count: int) -> str:
    """Return a number of bytes as text, however large it is.

    >>> _size(15 * 10**8), _size(10**60)
    ('1.5 GB', '1e51 GB')
    """
    if count < 10**15:
        return f"{count / 1e9:,.1f} GB"
    return f"1e{excerpt(int(math.log10(count)) - 9, 20)} GB"


def _machine_memory(kind: str = "MemAvailable") -> int:
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == kind:
                return int(value.split()[0]) * 1024
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _UNKNOWN


def _container_memory(used: int | None = None) -> int:
    """Return the bytes left under a container's (cgroup's) memory limit."""
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        most = int((group / "memory.max").read_text())
        if used is None:
            cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            used = int((group / "memory.current").read_text()) - int(cached.get("inactive_file", 0))
        return max(0, most - used)
    return _UNKNOWN
