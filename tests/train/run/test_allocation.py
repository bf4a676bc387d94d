"""Freed memory is kept, so that taking it again costs no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from attn_surgeon.train.run.allocation import keep_freed_memory
assert "keep" not in sys.argv or keep_freed_memory()
def step(): [torch.ones(2 << 20) for _ in range(16)]
for _ in range(4): step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is glibc's allocator")
def test_steps_that_free_what_they_took_cost_no_page_faults() -> None:
    faults = {
        way: int(subprocess.run([sys.executable, "-c", COUNT, way], capture_output=True, check=True, text=True).stdout)
        for way in ("keep", "as usual")
    }
    assert faults["keep"] < 0.1 * faults["as usual"]
