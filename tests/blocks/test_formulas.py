"""Blocks against their papers' formulas, written a second time in float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import get_card
from attn_surgeon.blocks.base.card import Value
from attn_surgeon.blocks.base.registry import get_factory
from attn_surgeon.blocks.channel.eca import adaptive_kernel

from .formulas import CASES, COUNTS
from .formulas.case import Array, Case, Count
from .helpers import NAMES, at_random, block, weights
from .prints import PRINTS


def raw(case: Case, channels: int, init: str) -> nn.Module:
    """Build the block at random, without anything around it that feeds it its second input."""
    return at_random(get_factory(case.block)(channels, **case.options, init=init)).double().eval()


def expected(case: Case, inputs: list[Array], w: dict[str, Array], init: str) -> Array:
    factor = 1 if init == "paper" else 2
    made = case.formula(*inputs, w, factor)
    blend = w.get("outer.gamma", w.get("gate.gamma"))
    return made if blend is None else inputs[0] + blend * (made - inputs[0])


@torch.no_grad()
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("init", ["paper", "identity"])
def test_formula(case: Case, init: str) -> None:
    for channels in case.channels:
        module = raw(case, channels, init)
        inputs = [torch.randn(3, channels, *case.size).double() for _ in range(get_card(case.block).inputs)]
        arrays = [each.numpy() for each in inputs]
        got: Tensor = module(*inputs)
        np.testing.assert_allclose(got.numpy(), expected(case, arrays, weights(module), init), rtol=1e-6, atol=1e-6)


def test_every_block_has_a_formula_and_every_option_is_tried() -> None:
    tried: dict[str, set[str]] = {name: set() for name in NAMES}
    for name, chosen in [(case.block, case.options) for case in CASES] + [
        (case.block, case.options) for case in PRINTS
    ]:
        options = {option.name: option.default for option in get_card(name).options}
        tried[name] |= {option for option, value in chosen.items() if value != options[option]}
    assert {case.block for case in CASES} == set(NAMES)  # a printed module tries options as a formula does
    assert {name: {option.name for option in get_card(name).options} - tried[name] for name in NAMES} == {
        name: set() for name in NAMES
    }


@pytest.mark.parametrize("count", COUNTS, ids=str)
def test_published_counts_of_parameters(count: Count) -> None:
    with torch.device("meta"):
        modules = [block(count.block, channels, "paper", **count.options) for channels in count.features]
    counted = [
        parameter.numel()
        for module in modules
        for name, parameter in module.named_parameters()
        if name.endswith(count.suffix)
    ]
    assert sum(counted) == count.expected


# t = ⌊(log2 C + 1) / 2⌋: C = 64: 3.5 → 3; 128: 4 → 5; 256: 4.5 → 4 → 5; 512: 5; 1024: 5.5 → 5; 2048: 6 → 7
@pytest.mark.parametrize(
    ("channels", "kernel"), [(1, 1), (8, 3), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_eca_kernel(channels: int, kernel: int) -> None:
    assert adaptive_kernel(channels) == kernel


@pytest.mark.parametrize("name", NAMES)
def test_defaults_on_the_card_are_those_of_the_class(name: str) -> None:
    given: dict[str, Value] = {option.name: option.default for option in get_card(name).options}
    by_card, plain = (weights(seeded(name, options)) for options in (given, {}))
    assert by_card.keys() == plain.keys()
    for key, value in plain.items():
        np.testing.assert_array_equal(by_card[key], value)
    assert str(seeded(name, given)) == str(seeded(name, {}))


def seeded(name: str, options: dict[str, Value]) -> nn.Module:
    torch.manual_seed(0)
    return block(name, 64, "paper", **options)
