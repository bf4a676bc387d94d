"""Outputs as vectors of numbers, and the grafts that make them differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import tensors


@dataclass(frozen=True)
class Outputs:
    """What the network gives before the tool: with grafts, with each graft run twice, and without any."""

    trained: Tensor
    twice: Tensor
    plain: Tensor

    @classmethod
    def of(cls, network: nn.Module, plain: nn.Module, run: Callable[[nn.Module], Any]) -> Outputs:
        """Run a network as it is and with its grafts doubled, and the one without."""
        trained = vector(run(network))
        with doubled(network):
            twice = vector(run(network))
        return cls(trained, twice, vector(run(plain)))

    @property
    def effect(self) -> float:
        """Give what the grafts change."""
        return distance(self.trained, self.plain)

    @property
    def telling(self) -> bool:
        """Say whether the grafts change enough to be missed."""
        return self.effect > 1e-3 * float(self.plain.abs().max())

    def describe(self, after: Tensor, control: Tensor) -> str:
        """Say what an output that is not the right one is like; `control` is the tool's without grafts."""
        near = 0.05 * self.effect
        if min(distance(after, self.plain), distance(after, control)) <= near:
            return "as without grafts"
        if distance(after, self.trained) <= near:
            return "as with grafts"
        if distance(after, self.twice) <= near:
            return "grafts run twice"
        return f"another output, off by {distance(after, self.trained) / self.effect:.2g} of the effect"


def vector(output: Any) -> Tensor:
    """Give everything of an output that is a number as one vector."""
    found = [value.detach().float().flatten() for value in tensors(output) if value.is_floating_point()]
    return torch.cat(found) if found else torch.empty(0)


def distance(one: Tensor, other: Tensor) -> float:
    """Give the largest difference; outputs of different sizes are infinitely far apart."""
    if one.shape != other.shape or not len(one):
        return float("inf")
    return float((one - other).abs().max().nan_to_num(float("inf"), float("inf")))


@torch.no_grad()
def train(network: nn.Module) -> nn.Module:
    """Give grafts other parameters, as training would, the same each time."""
    generator = torch.Generator().manual_seed(2)
    for made in list_grafts(network):
        for parameter in made.block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


@contextmanager
def doubled(network: nn.Module) -> Iterator[None]:
    """Let every graft work twice on what it is given."""
    with ExitStack() as stack:
        for made in list_grafts(network):
            forward = made.block.forward
            vars(made.block)["forward"] = lambda x, *rest, _forward=forward: _forward(_forward(x, *rest), *rest)
            stack.callback(vars(made.block).pop, "forward")
        yield
