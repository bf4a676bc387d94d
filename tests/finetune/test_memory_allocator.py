"""Freed memory is kept by the process, or every step would ask the system for its pages again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

LEFT = """
import ctypes, sys, torch
from pathlib import Path
from attn_surgeon.finetune.memory_allocator import keep_freed_memory
for threshold in (-1, -3):  # to trim, and to map: glibc's first ones, which it would move by what was freed so far
    ctypes.CDLL(None).mallopt(threshold, 131072)
assert "keep" not in sys.argv or keep_freed_memory()
torch.ones(1)
lines = lambda: Path("/proc/self/status").read_text().splitlines()
held = lambda: next(int(line.split()[1]) << 10 for line in lines() if line.startswith("RssAnon"))  # no file's pages
before = held()
tensors = [torch.ones(6 << 20) for _ in range(6)]
del tensors
print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is glibc's allocator")
def test_what_six_tensors_of_24_mib_took_stays_with_the_process() -> None:
    command = [sys.executable, "-c", LEFT]
    left = {
        way: int(subprocess.run([*command, way], capture_output=True, check=True, text=True).stdout)
        for way in ("keep", "as usual")
    }
    assert left["keep"] > 140e6
    if left["as usual"] > 10e6:
        pytest.skip("here freed memory stays with a process anyway, so that this tells nothing")
