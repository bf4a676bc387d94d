"""The costs on the cards are those of the blocks."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from attn_surgeon.blocks import Card, get_card
from attn_surgeon.measure.cost import block_cost

from .card_formula import evaluate
from .helpers import NAMES, block


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "height", "width"), [(256, 14, 14), (64, 7, 21), (512, 28, 14)])
def test_costs(name: str, channels: int, height: int, width: int) -> None:
    card = get_card(name)
    with torch.device("meta"):
        module = block(name, channels)
    cost = block_cost(module, (1, channels, height, width))
    assert cost.parameters == evaluate(card.parameters, card, channels, height, width)
    assert cost.macs == evaluate(card.macs, card, channels, height, width)


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_written_alike(name: str) -> None:
    card = get_card(name)
    assert re.match(r"(simplified from )?[A-Z][\w-]+( et al\.| & [A-Z][\w-]+)? (19|20)\d\d, [A-Z]", card.paper)
    assert re.match(r"[yf] = ", card.formula)
    assert " - " not in card.formula + card.identity
    for text in (card.idea, card.usual_sites, *[option.meaning for option in card.options]):
        assert not text.endswith(".")
        assert not re.match(r"[A-Z][a-z]", text)


WIDER = [
    (name, {option.name: value})
    for name in NAMES
    for option in get_card(name).options
    for of, value in (("reduction", 8), ("reduction", 2), ("kernel_size", 3), ("kernel_size", 9))
    if option.name == of and option.default is not None
]


@pytest.mark.parametrize(("name", "options"), WIDER, ids=str)
def test_costs_with_other_options(name: str, options: dict[str, Any]) -> None:
    card = get_card(name)
    with torch.device("meta"):
        module = block(name, 512, **options)
    cost = block_cost(module, (1, 512, 7, 21))
    assert cost.parameters == evaluate(card.parameters, card, 512, 7, 21, **options)
    assert cost.macs == evaluate(card.macs, card, 512, 7, 21, **options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2C²/r + C/r + C", 2 * 64 * 64 / 16 + 64 / 16 + 64),
        ("3Cm + 2m, m = max(8, C/r)", 3 * 64 * 8 + 16),
        ("(4C² + 2C(H + W))·HW", (4 * 64**2 + 2 * 64 * 12) * 35),
        ("k, k = 2⌊m/2⌋ + 1, m = log2(C)/4", 1),
        ("0", 0),
    ],
)
def test_formulas_are_read(text: str, value: float) -> None:
    assert evaluate(text, get_card("se"), 64, 5, 7) == value


def test_a_wrong_formula_is_reported() -> None:
    card = get_card("se")
    assert isinstance(card, Card)
    assert evaluate("2C²/r", card, 64, 5, 7) != evaluate(card.parameters, card, 64, 5, 7)
    with pytest.raises(AssertionError):
        evaluate("2C¤", card, 64, 5, 7)
