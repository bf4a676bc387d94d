"""Peak memory of a piece of work, beyond what was allocated before."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch


def peak_memory(work: Callable[[], Any], device: torch.device) -> int:
    """Return the most bytes that tensors and kernels' workspaces take at one time."""
    if device.type == "cuda":
        return _peak_on_gpu(work, device)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's log is not for users
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = work()
    del kept
    assert profile.profiler is not None
    found: Any = profile.profiler.kineto_results
    events = sorted(
        (event for event in found.events() if event.name() == "[memory]"), key=lambda event: event.start_ns()
    )
    held = peak = 0
    for event in events:
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _peak_on_gpu(work: Callable[[], Any], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
