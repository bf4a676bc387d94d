"""Measure the peak memory that a function allocates, on the CPU by the profiler, on a GPU by the caching allocator."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch


def peak_memory(work: Callable[[], Any], device: torch.device) -> int:
    """Return the peak of the bytes that a function allocates for tensors and kernel workspaces."""
    if device.type == "cuda":
        return _peak_on_gpu(work, device)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no log of the profiler on stderr
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        output = work()  # kept alive until the profile ends, so that it is not freed before the peak
    del output
    assert profile.profiler is not None
    results: Any = profile.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        allocated += event.nbytes()  # negative where memory is freed
        peak = max(peak, allocated)
    return peak


def _peak_on_gpu(work: Callable[[], Any], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
