"""Blocks with the weights of modules that articles and repositories print, against these modules."""

from __future__ import annotations

import pytest
import torch

from attn_surgeon.blocks import get_card, is_identity
from attn_surgeon.blocks.base.registry import get_factory

from .helpers import at_random, bits, still
from .prints import PRINTS
from .prints.case import Print, differences


@pytest.mark.parametrize("case", PRINTS, ids=str)
def test_a_printed_module_is_had_exactly(case: Print) -> None:
    for channels in case.channels:
        for mode, difference in differences(case, channels):
            assert difference <= 1e-12, (mode, channels)


@torch.no_grad()
@pytest.mark.parametrize("case", PRINTS, ids=str)
def test_its_options_start_as_the_identity(case: Print) -> None:
    channels = case.channels[-1]
    inputs = [9 * torch.randn(case.images, channels, *case.size) for _ in range(get_card(case.block).inputs)]
    block = get_factory(case.block)(channels, **case.options)
    assert is_identity(block)
    for training in (True, False):
        assert torch.equal(bits(block.train(training)(*inputs)), bits(inputs[0]))


@pytest.mark.parametrize("case", PRINTS, ids=str)
def test_its_options_learn(case: Print) -> None:
    channels = case.channels[-1]
    inputs = [torch.rand(case.images, channels, *case.size) for _ in range(get_card(case.block).inputs)]
    block = get_factory(case.block)(channels, **case.options)
    assert still(block.train(), *inputs) == set()


def test_a_difference_is_detected() -> None:
    case = next(each for each in PRINTS if each.block == "cbam" and "order" in each.options)
    wrong = Print(case.source, case.block, {**case.options, "order": "max-mean"}, case.module, case.names)
    assert dict(differences(wrong, 32))["eval"] > 1e-3
    assert isinstance(at_random(case.module(32)), torch.nn.Module)
