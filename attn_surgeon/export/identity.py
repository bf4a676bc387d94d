"""Grafts that are exactly the identity, told by their values; they need not be shipped.

A graft is closed where those of its parameters that are all zero, or all one, make it the identity whatever the others
are: on a copy the others are drawn at random, and what it gives is what it was given, bit for bit.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from attn_surgeon.surgery.installed import Made, list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.perform import take_out
from attn_surgeon.surgery.plan import Graft
from attn_surgeon.surgery.running import same_bits

DRAWS = 2


def closed_grafts(model: nn.Module) -> list[Made]:
    """List the grafts of a network that are exactly the identity."""
    return [made for made in list_grafts(model) if is_closed(made.block, made.graft)]


def without_closed(model: nn.Module) -> nn.Module:
    """Copy a network without the grafts that are exactly the identity."""
    closed = {made.path for made in closed_grafts(model)}
    lean = copied(model)
    chosen = {id(made.graft) for made in list_grafts(lean) if made.path in closed}
    take_out(lean, lambda graft: id(graft) in chosen)
    return lean


def is_closed(block: nn.Module, graft: Graft) -> bool:
    """Tell whether a block passes its first input on whatever that is, because its gate is closed."""
    if not any(is_gate(parameter) for parameter in block.parameters()):
        return False
    shapes = [feature.shape for feature in (graft.feature, graft.second) if feature is not None]
    tried = copy.deepcopy(block).float().eval()
    generator = torch.Generator().manual_seed(0)
    for _ in range(DRAWS):
        _randomise(tried, generator)
        inputs = [torch.randn(shape, generator=generator) for shape in shapes]
        if not _passes(tried, inputs):
            return False
    return True


@torch.no_grad()
def _passes(block: nn.Module, inputs: list[Tensor]) -> bool:
    try:
        return same_bits(block(*inputs), inputs[0])
    except RuntimeError:  # a block of the user's own may not run alone
        return False


def is_gate(parameter: Tensor) -> bool:
    """Tell whether a parameter may be what closes a gate: all of it is zero, or one."""
    return any(bool((parameter == value).all()) for value in (0, 1))


@torch.no_grad()
def _randomise(block: nn.Module, generator: torch.Generator) -> None:
    for parameter in block.parameters():
        if not is_gate(parameter):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter[0].numel() or 1))
