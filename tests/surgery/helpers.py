"""What the tests of surgery share: grafts that are no longer the identity, and comparisons bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.rewrite.placement import Side
from attn_surgeon.surgery.running import Example, run_network, same_bits
from attn_surgeon.surgery.sites.selection import Selectors
from attn_surgeon.surgery.sites.survey import survey


def image(batch: int = 2, channels: int = 4, size: int = 8) -> Tensor:
    return torch.randn(batch, channels, size, size)


def members(net: nn.Module, group: str, x: Tensor | None = None) -> list[tuple[str, Side]]:
    """List the sites of a group with their sides."""
    return list(survey(net, image(2, 3, 64) if x is None else x).groups[group])


def after(*names: str) -> list[tuple[str, Side]]:
    return [(name, "after") for name in names]


def grafted(model: nn.Module, after: Selectors = (), before: Selectors = (), **options: Any) -> nn.Module:
    """Insert SE at the sites; the network stays the identity and the original unchanged."""
    if "example" not in options:
        options["example"] = image()
    block = options.pop("block", "se")
    return insert(model, block, after=after, before=before, **{"options": {"reduction": 2}, **options})


@torch.no_grad()
def open_up(model: nn.Module) -> nn.Module:
    """Give every graft parameters at random, so that it changes what flows through it."""
    for made in list_grafts(model):
        for parameter in made.block.parameters():
            parameter.normal_()
    return model


def opened(model: nn.Module, after: Selectors = (), before: Selectors = (), **options: Any) -> nn.Module:
    """Insert SE at the sites and open the grafts."""
    return open_up(grafted(model, after, before, **options))


def blocks(model: nn.Module) -> list[nn.Module]:
    return [made.block for made in list_grafts(model)]


def block_at(model: nn.Module, site: str, side: str = "after") -> nn.Module:
    (block,) = [made.block for made in list_grafts(model) if (made.graft.site, made.graft.side) == (site, side)]
    return block


def identical(original: nn.Module, model: nn.Module, example: Example) -> bool:
    """Say whether two networks agree bit for bit in both modes, buffers afterwards included."""
    if not same_bits(run_network(original, example), run_network(model, example)):
        return False
    mine, theirs = copy.deepcopy(original), copy.deepcopy(model)
    if not same_bits(
        run_network(mine, example, training=True, seed=7), run_network(theirs, example, training=True, seed=7)
    ):
        return False
    after = theirs.state_dict()
    return all(same_bits(value, after[key]) for key, value in mine.state_dict().items())


def changed(original: nn.Module, model: nn.Module, example: Example) -> bool:
    return not same_bits(run_network(original, example), run_network(model, example))
