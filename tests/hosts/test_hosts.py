"""What needs only the package's own dependencies keeps its grafts or refuses by name; and the judge itself can fail."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn

import attn_surgeon
from attn_surgeon.errors import SurgeonError
from attn_surgeon.surgery.installed_grafts import list_grafts

from . import __main__ as program
from .host import Host, call
from .messages import names_graft
from .registry import HOSTS
from .table import SIDES, draw_notes, draw_table
from .verdict import Verdict, judge

pytestmark = pytest.mark.hosts

LIGHT = [host for host in HOSTS if host.light]
# each tool is tried at one placement every time, by turns; its other two are slow tests
CASES = [
    pytest.param(host, side, id=f"{side}-{host.name}", marks=() if (i + j) % len(SIDES) == 0 else pytest.mark.slow)
    for i, host in enumerate(LIGHT)
    for j, side in enumerate(SIDES)
]


@pytest.mark.parametrize(("host", "side"), CASES)
def test_keeps_or_refuses(host: Host, side: str) -> None:
    verdict = judge(host, side)
    assert verdict.good, str(verdict)


def test_the_program_prints_a_matrix_and_fails_where_a_tool_breaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "HOSTS", (*HOSTS[:2], Host("a tool that breaks", "tests", raises)))
    monkeypatch.setattr(logging, "disable", lambda level: None)  # it would outlast this test
    assert program.main(["--only", "copies", "--table"]) == 0
    assert "6 cells: 6 kept." in capsys.readouterr().out
    assert program.main(["--only", "a tool*"]) == 1
    assert "a tool that breaks: BROKE" in capsys.readouterr().out


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


def refuses(network: nn.Module, x: Any) -> Any:
    if list_grafts(network):
        raise RuntimeError("the graft after stem cannot be carried on")
    return network


def fails(network: nn.Module, x: Any) -> Any:
    raise RuntimeError("out of order")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("tool", "kind", "note"),
    [
        (refuses, "refused", "the graft after stem cannot"),
        (fails, "n/a", "out of order"),
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


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("the grafts after stem did not run", True),
        ("attn-surgeon cannot carry this on", True),
        ('Unexpected key(s) in state_dict: "stem.2.attn_surgeon.after.fc1.weight"', True),
        ("no such operator", False),
        ('File "/lib/attn_surgeon/blocks/se.py", line 3', False),
        ("'ReLU' object has no attribute 'attn_surgeon'", False),
        ("Can't redefine method: forward on class: __torch__.attn_surgeon.blocks.se", False),
    ],
)
def test_what_names_a_graft(text: str, named: bool) -> None:
    assert names_graft(RuntimeError(text)) is named
    assert names_graft(SurgeonError("no"))


def test_table() -> None:
    host = Host("a tool", "tests", fails)
    text = draw_table([(host, dict.fromkeys(SIDES, Verdict("LOST", "as without grafts")))])
    assert "| a tool | LOST | LOST | LOST |" in text
    assert "3 cells: 3 LOST." in text
    assert draw_notes([(host, dict.fromkeys(SIDES, Verdict("LOST", "as without grafts")))]) == (
        "- a tool: LOST, as without grafts"
    )
    assert "Kept at all three: a tool." in draw_table([(host, dict.fromkeys(SIDES, Verdict("kept")))])
