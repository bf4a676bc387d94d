"""What needs only the package's own dependencies keeps its grafts or refuses by name; and the judge itself can fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import attn_surgeon
from attn_surgeon.graph.surgery import list_grafts

from .host import Host, call
from .registry import HOSTS
from .table import SIDES
from .verdict import judge

LIGHT = [host for host in HOSTS if host.light]


@pytest.mark.parametrize("host", LIGHT, ids=[host.name for host in LIGHT])
@pytest.mark.parametrize("side", SIDES)
def test_keeps_or_refuses(host: Host, side: str) -> None:
    verdict = judge(host, side)
    assert verdict.good, str(verdict)


def drops(network: nn.Module, x: Any) -> Any:
    """Lose the grafts as a tool does that builds the network again from its description."""
    return attn_surgeon.remove(network) if list_grafts(network) else network


def doubles(network: nn.Module, x: Any) -> Any:
    for made in list_grafts(network):
        made.block.register_forward_hook(lambda block, inputs, output: block.forward(output, *inputs[1:]))
    return lambda x: call(network, x)


def blurs(network: nn.Module, x: Any) -> Any:
    """Keep a tenth of what a graft does."""
    for made in list_grafts(network):
        made.block.register_forward_hook(lambda block, inputs, output: torch.lerp(inputs[0], output, 0.1))
    return lambda x: call(network, x)


def raises(network: nn.Module, x: Any) -> Any:
    if list_grafts(network):
        raise RuntimeError("no such operator")
    return network


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("tool", "kind", "note"),
    [
        (drops, "LOST", "as without grafts"),
        (doubles, "LOST", "grafts run twice"),
        (blurs, "LOST", "another output"),
        (raises, "BROKE", "no such operator"),
        (lambda network, x: network, "kept", ""),
    ],
)
def test_judge(tool: Any, kind: str, note: str, side: str) -> None:
    verdict = judge(Host("a tool of the tests", "tests", tool), side)
    assert verdict.kind == kind
    assert note in verdict.note
