"""Freed memory is kept by the process, or every step would ask the system for its pages again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

LEFT = """
import sys, torch
from pathlib import Path
from attn_surgeon.train.run.allocation import keep_freed_memory
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
    # glibc's first thresholds, which it would move by what was freed so far
    usual = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    left = {
        way: int(subprocess.run([*command, way], capture_output=True, check=True, text=True, env=usual).stdout)
        for way in ("keep", "as usual")
    }
    assert left["keep"] > 140e6
    assert left["as usual"] < 10e6
