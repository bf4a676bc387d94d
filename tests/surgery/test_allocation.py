"""What needs more memory than there is, is refused before it is allocated."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import attn_surgeon
from attn_surgeon import memory
from attn_surgeon.errors import MemoryLimitError, PlanError, SourceError
from attn_surgeon.networks import load_source, parse_source
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.surgery.allocation import MOST_TENSORS, require_runnable, within_memory


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be 1 GB of memory."""
    monkeypatch.setattr(memory, "_machine_memory", lambda kind="": 10**9)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(10**6, 10**6),
        lambda: nn.Sequential(*(nn.Linear(9000, 9000) for _ in range(9))),
        lambda: torch.zeros(10**10),
        lambda: torch.full((10**6, 10**6), 1.0),
        lambda: torch.randn(10**12, generator=torch.Generator()),
        lambda: torch.arange(10**12),
    ],
)
def test_modules_beyond_the_memory_are_not_made(little: None, make: Callable[[], Any]) -> None:
    with pytest.raises(MemoryLimitError, match=r"it needs .* GB of memory, and 1.0 GB are free; less"):  # noqa: SIM117
        with torch.device("meta"), within_memory("it", "less"):
            make()


def test_tensors_without_end_are_not_made() -> None:
    with pytest.raises(MemoryLimitError, match=f"it has more than {MOST_TENSORS:,} tensors"):  # noqa: SIM117
        with torch.device("meta"), within_memory("it", ""):
            while True:
                torch.empty(0)


def test_modules_are_made_as_without_the_limit() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 8, 3).state_dict()
    torch.manual_seed(0)
    with within_memory("it", ""):
        limited = nn.Conv2d(3, 8, 3).state_dict()
    assert all(torch.equal(plain[name], limited[name]) for name in plain)


@pytest.mark.skipif(sys.platform == "win32", reason="resource is not there")
def test_a_pass_beyond_the_memory_is_not_run(little: None) -> None:
    before = peak()
    require_runnable(load_demo(), (1, 1, 32, 32), "it", "")
    with pytest.raises(MemoryLimitError, match=r"it needs 12.3 GB of memory"):  # the 16 channels of its first layer
        require_runnable(load_demo(), (1, 1, 8000, 8000), "it", "")
    with pytest.raises(MemoryLimitError, match=r"it needs 1e15 GB"):
        require_runnable(load_demo(), (10**15, 1, 10**4, 10**4), "it", "")
    assert peak() - before < 200_000


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"num_classes": 10**10}, r"num_classes=10000000000 is out of range; demo; numbers are at most 100,000"),
        ({"num_classes": float("nan")}, "num_classes=nan is out of range"),
        ({"num_classes": 10**5000}, "num_classes=0x"),
    ],
)
def test_arguments_out_of_range(args: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        load_source(parse_source("demo", args=args, weights="none"))
    assert len(str(caught.value)) < 300


def test_arguments_of_a_library_that_take_too_much(little: None) -> None:
    with pytest.raises(
        MemoryLimitError, match=r"resnet50[^ ]* needs .* GB of memory, and 1.0 GB are free; check its arg"
    ):
        load_source(parse_source("timm/resnet50", args={"base_width": "8192"}, weights="none"))


def test_a_block_beyond_the_memory_is_refused_in_the_plan() -> None:
    with pytest.raises(PlanError, match="cbam cannot be built with these options: cbam needs") as caught:
        attn_surgeon.insert(
            load_demo(), "cbam", after="layer3", example=torch.zeros(1, 1, 32, 32), options={"kernel_size": 10**9 + 1}
        )
    assert len(str(caught.value)) < 300
