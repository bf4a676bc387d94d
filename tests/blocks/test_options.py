"""Options are checked against the card, and blocks against their channels."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from attn_surgeon.blocks import BlockSpec, block_names, build_block, get_card
from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.errors import BlockError, for_command_line

from .helpers import block


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("se", {"reduction": "many"}, "invalid option reduction=many: it takes a whole number"),
        ("se", {"reduction": 2.5}, "it takes a whole number"),
        ("se", {"reduction": "2.5"}, "it takes a whole number"),
        ("se", {"reduction": None}, "it takes a whole number"),
        ("se", {"reduction": [4]}, "it takes a whole number"),
        ("se", {"reduction": True}, "it takes a whole number"),
        ("se", {"reduction": float("inf")}, "it takes a whole number"),
        ("se", {"reduction": float("nan")}, "it takes a whole number"),
        ("se", {"reduction": 0}, "the smallest is 1"),
        ("se", {"reduction": -16}, "the smallest is 1"),
        ("spatial", {"kernel_size": 4}, "it takes an odd number"),
        ("cbam", {"kernel_size": "6"}, "it takes an odd number"),
        ("eca", {"kernel_size": 2}, "it takes an odd number"),
        ("eca", {"gamma": 0}, "the smallest is 0.1"),
        ("eca", {"gamma": "x"}, "it takes a number"),
        ("eca", {"b": float("inf")}, "it takes a number"),
        ("eca", {"gamma": float("nan")}, "it takes a number"),
    ],
)
def test_values_out_of_range(name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BlockError) as caught:
        BlockSpec.read(name, options)
    assert reason in caught.value.what
    assert caught.value.where == f"block '{name}'"
    assert for_command_line(caught.value.hint) == f"see: attn-surgeon blocks {name}"


@pytest.mark.parametrize(
    ("name", "options", "read"),
    [
        ("se", {"reduction": "8"}, {"reduction": 8}),
        ("se", {"reduction": 8.0}, {"reduction": 8}),
        ("eca", {"gamma": "1.5", "b": 2}, {"gamma": 1.5, "b": 2.0}),
        ("eca", {"kernel_size": None}, {"kernel_size": None}),
        ("cbam", {"kernel_size": 3}, {"kernel_size": 3}),
        ("se", {}, {}),
    ],
)
def test_values_are_read(name: str, options: dict[str, Any], read: dict[str, Any]) -> None:
    spec = BlockSpec.read(name, options)
    assert spec.options == read
    assert [type(value) for value in spec.options.values()] == [type(value) for value in read.values()]
    assert BlockSpec(**spec.to_dict()) == spec


def test_choices() -> None:
    option = Option("pool", "mean", "how", choices=("mean", "max"))
    assert option.read("max", "b") == "max"
    with pytest.raises(BlockError, match="it takes one of mean, max"):
        option.read("min", "b")


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(BlockError, match=r"no option is called 'reducton'; block 'se'; did you mean reduction\?"):
        BlockSpec.read("se", {"reducton": 8})
    with pytest.raises(BlockError, match="it has reduction, least, hidden, kernel_size, bias"):
        BlockSpec.read("cbam", {"zzz": 8})


def test_unknown_block_names_the_nearest() -> None:
    with pytest.raises(BlockError, match=r"no block is called 'cban'; did you mean cbam"):
        BlockSpec.read("cban", {})
    with pytest.raises(BlockError, match=r"list them with: attn_surgeon.blocks.block_names\(\)"):
        BlockSpec.read("qqqqqq", {})


@pytest.mark.parametrize(("given", "name"), [("SE", "se"), ("CBAM", "cbam"), ("Se+Spatial", "se+spatial")])
def test_names_are_known_in_any_case(given: str, name: str) -> None:
    assert BlockSpec.read(given, {}).name == name
    assert str(build_block(given, 16)) == str(build_block(BlockSpec(name), 16))


def test_unknown_start() -> None:
    with pytest.raises(BlockError, match=r"unknown init 'identiy'; block 'se'; did you mean identity\?"):
        BlockSpec.read("se", {}, "identiy")


def test_catalogue() -> None:
    assert block_names() == sorted(block_names())
    assert [get_card(name).name for name in block_names()] == block_names()


def test_a_name_is_registered_once() -> None:
    card = get_card("se")
    with pytest.raises(ValueError, match="two blocks are called 'se'"):
        register(Card(**{field: getattr(card, field) for field in card.__dataclass_fields__}))(nn.Identity)
    assert type(block("se", 16)).__name__ == "SqueezeExcite"


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        (Option("fast", False, ""), "true", True),
        (Option("fast", True, ""), "False", False),
        (Option("rate", 0.5, "", minimum=0, maximum=1), "1", 1.0),
        (Option("heads", None, "", minimum=1), "4", 4),
    ],
)
def test_kinds_of_options(option: Option, text: str, value: float) -> None:
    assert option.read(text, "b") == value
    assert type(option.read(text, "b")) is type(value)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        (Option("fast", False, ""), "1", "it takes true or false"),
        (Option("rate", 0.5, "", maximum=1), 1.5, "the largest is 1"),
        (Option("rate", 0.5, ""), "false", "it takes a number"),
    ],
)
def test_wrong_values(option: Option, value: Any, reason: str) -> None:
    with pytest.raises(BlockError, match=reason):
        option.read(value, "b")


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (Option("a", 1, ""), ""),
        (Option("a", 7, "", minimum=1, odd=True), "at least 1, odd"),
        (Option("a", 0.5, "", minimum=0, maximum=1), "0 to 1"),
        (Option("a", "x", "", choices=("x", "y")), "x | y"),
        (Option("a", True, ""), "true | false"),
    ],
)
def test_ranges_are_shown(option: Option, text: str) -> None:
    assert option.range == text


@pytest.mark.parametrize(
    ("name", "option"), [("ela", "groups"), ("ela", "mixed"), ("shuffle", "groups"), ("ema", "groups")]
)
def test_groups_that_do_not_divide_the_channels(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"12 channels are not divisible by {option}=5"):
        build_block(BlockSpec(name, {option: 5}), 12)
