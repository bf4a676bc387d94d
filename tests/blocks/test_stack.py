"""Stacks of blocks: what each part is told, and that they run one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attn_surgeon.blocks import BlockSpec, SecondInput, build_block
from attn_surgeon.errors import BlockError

from .helpers import at_random, bits, still


def test_parts_run_one_after_the_other() -> None:
    stack = at_random(build_block(BlockSpec.read("se+spatial", {}, "paper"), 32)).eval()
    se, spatial = build_block(BlockSpec("se", {}, "paper"), 32), build_block(BlockSpec("spatial", {}, "paper"), 32)
    se.load_state_dict({key[2:]: value for key, value in stack.state_dict().items() if key.startswith("0.")})
    spatial.load_state_dict({key[2:]: value for key, value in stack.state_dict().items() if key.startswith("1.")})
    x = torch.randn(2, 32, 5, 6)
    assert torch.equal(stack(x), spatial.eval()(se.eval()(x)))


@pytest.mark.parametrize("name", ["se+spatial", "eca+eca+se", "gate+se", "mdaf+gate"])
def test_identity_and_learning(name: str) -> None:
    stack, x = build_block(BlockSpec.read(name, {}), 16), torch.randn(3, 16, 5, 6)
    assert torch.equal(bits(stack(x)), bits(x))
    assert still(stack, x) == set()


@pytest.mark.parametrize("layout", ["NHWC", "NLC"])
def test_layouts(layout: str) -> None:
    stack = build_block(BlockSpec("se+spatial"), 16, layout=layout, prefix=1, grid=(3, 4), positions=12)
    x = torch.randn(2, 13, 16) if layout == "NLC" else torch.randn(2, 3, 4, 16)
    assert torch.equal(stack(x), x)


def test_only_parts_of_two_inputs_take_the_second() -> None:
    stack = at_random(build_block(BlockSpec("se+gate", {}, "paper"), 16, other=SecondInput(16))).eval()
    x, y = torch.randn(2, 16, 5, 6), torch.randn(2, 16, 5, 6)
    first, second = stack.children()
    assert torch.equal(stack(x, y), second(first(x), y))
    with pytest.raises(ValueError, match=r"se\+eca takes one input"):
        build_block(BlockSpec("se+eca"), 16, other=SecondInput(16))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"kernel_size": "3", "reduction": 4}, {"se.reduction": 4, "spatial.kernel_size": 3}),
        ({"se.reduction": "2"}, {"se.reduction": 2}),
        ({}, {}),
    ],
)
def test_options_go_to_their_parts(given: dict[str, Any], read: dict[str, Any]) -> None:
    spec = BlockSpec.read("se+spatial", given)
    assert spec.options == read
    assert BlockSpec.read(**spec.to_dict()) == spec
    assert [part.name for part in spec.parts] == ["se", "spatial"]
    assert spec.parts[0].options == {key[3:]: value for key, value in read.items() if key.startswith("se.")}


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        (
            "se+cbam",
            {"reduction": 8},
            r"2 of its blocks have .*write se.reduction or cbam.reduction",
        ),
        ("se+eca", {"reductoin": 8}, "no option is called 'reductoin'"),
        ("se+eca", {"cbam.reduction": 8}, "no block of the stack is called 'cbam'"),
        ("se+eca", {"se.width": 8}, "no option is called 'width'"),
        ("se+", {}, "no block is called ''"),
        ("se+ecq", {}, r"no block is called 'ecq'.*did you mean eca"),
        ("se+eca", {"se.reduction": 0}, "the smallest is 1"),
    ],
)
def test_wrong_stacks(name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BlockError, match=reason):
        BlockSpec.read(name, options)
