"""Which grafts need not be shipped."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.export.identity_grafts import closed_grafts, without_closed
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import run_network, same_bits
from tests.blocks.helpers import ALONE, at_random
from tests.toy_networks.layouts import Tokens


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()


def grafted(block: str, **options: Any) -> nn.Module:
    return insert(net(), block, example=torch.randn(1, 3, 12, 12), after="1", **options).eval()


@pytest.mark.parametrize("block", ALONE)
def test_a_block_is_closed_as_it_starts_and_open_once_it_has_learnt(block: str) -> None:
    model = grafted(block)
    assert len(closed_grafts(model)) == 1
    at_random(list_grafts(model)[0].block)
    assert closed_grafts(model) == []


def test_a_published_start_is_kept() -> None:
    for block in ("se", "simam", "mhsa", "se+spatial"):
        assert closed_grafts(grafted(block, init="paper")) == [], block


def test_a_gate_that_was_closed_again_is_closed_whatever_the_rest_learnt() -> None:
    model = grafted("se")
    block: Any = at_random(list_grafts(model)[0].block)
    for parameter in block.fc2.parameters():
        nn.init.zeros_(parameter)
    assert len(closed_grafts(model)) == 1
    nn.init.constant_(block.fc2.bias, 1e-30)  # no output shows it, but it is not zero
    assert same_bits(block(x := torch.randn(1, 16, 5, 5)), x)
    assert closed_grafts(model) == []


def test_a_gate_that_only_looks_closed_is_kept() -> None:
    """A hidden layer of zeros makes no identity, though it hides the images."""
    model = grafted("se")
    block: Any = at_random(list_grafts(model)[0].block)
    for parameter in block.fc1.parameters():
        nn.init.zeros_(parameter)
    assert closed_grafts(model) == []


def test_only_the_closed_ones_go_and_the_network_computes_the_same(untrained: LoadedNetwork) -> None:
    model = copy.deepcopy(untrained.model)
    at_random(list_grafts(model)[1].block)
    before = [made.path for made in list_grafts(model)]
    lean = without_closed(model)
    assert [made.path for made in list_grafts(lean)] == [before[1]]
    assert [made.path for made in list_grafts(model)] == before
    assert same_bits(run_network(lean, untrained.example), run_network(model, untrained.example))


class Joining(nn.Module):
    """Joins what two convolutions make."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.left(x), self.right(x)), 1)


def test_blocks_of_two_inputs_and_of_tokens() -> None:
    tokens, example = Tokens(2), torch.randn(1, 3, 16, 16)
    fused = insert(Joining(), "gate", example=example, at="fusions")
    assert len(closed_grafts(fused)) == len(list_grafts(fused)) == 1
    model = insert(tokens, "coord", example=example, at="blocks")
    assert len(closed_grafts(model)) == len(list_grafts(model)) > 0
    at_random(list_grafts(model)[0].block)
    assert len(closed_grafts(model)) == len(list_grafts(model)) - 1
