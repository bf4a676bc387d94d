"""A network and a block of which all scores are known by hand: the output for zeros is the sum of all γ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.blocks import BlockSpec, register_block
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.scouting.candidates import Candidate, Lineup, line_up
from attn_surgeon.scouting.gradients import Problem
from attn_surgeon.surgery.sites.selection import Selection
from attn_surgeon.tasks.settings import TaskSettings

FIRST, SECOND = Candidate("first", "after", "plus-one"), Candidate("second", "after", "plus-one")


class PlusOne(nn.Module):
    """Add one; blended in by γ, it adds γ."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Chain(nn.Module):
    """Three convolutions that return their input, then the mean over positions, (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(2, 2, 1, bias=False) for _ in range(3))
        for layer in (self.first, self.second, self.third):
            nn.init.dirac_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.third(self.second(self.first(x)))).mean((2, 3))


class Squares:
    """The task of half the squared distance from targets (2,)."""

    name = "classification"

    def batch_loss(self, forward: Any, images: Tensor, targets: Tensor, settings: TaskSettings) -> tuple[Tensor, Any]:
        output = forward(images)
        return 0.5 * (output - targets).square().sum(1).mean(), output


def chain() -> LoadedNetwork:
    """Return the network, for images of 2 × 4 × 4."""
    preprocessing = Preprocessing((0.0, 0.0), (1.0, 1.0), (4, 4), channels=2)
    return LoadedNetwork(set_provenance(Chain(), Provenance(SourceSpec("object", "chain"), preprocessing)).eval())


def problem(targets: Sequence[tuple[float, float]]) -> Problem:
    """Return batches of one image of zeros each, with these targets."""
    batches = [(torch.zeros(1, 2, 4, 4), torch.tensor([target])) for target in targets]
    return Problem(cast(Any, Squares()), TaskSettings(), batches)


def lineup(*sites: str) -> Lineup:
    """Return candidates, by default FIRST and SECOND."""
    register_block("plus-one", PlusOne)
    return line_up(chain(), [BlockSpec.read("plus-one", {})], Selection.read(after=sites or ("first", "second")))
