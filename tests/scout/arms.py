"""The arms of a comparison: what is trained beside the head of a frozen network."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

import attn_surgeon
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.finetune.freezing import heads
from attn_surgeon.finetune.parameter_groups import norm_names
from attn_surgeon.measure.cost import parameters
from attn_surgeon.scouting.candidates import of_graft
from attn_surgeon.scouting.settings import BLOCKS, DEFAULT_SITES
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied

from .ranks import read, text

AND_NORMS = " and norms"
ADAPTER = f"{Path(__file__).with_name('conv_adapter.py')}:ConvAdapter"


@dataclass(frozen=True)
class Candidates:
    """The blocks and the groups of sites that scout chooses from."""

    blocks: tuple[str, ...] = BLOCKS
    at: tuple[str, ...] = DEFAULT_SITES


USUAL = Candidates()
WIDE = Candidates(("se", "eca", "cbam", "coord", "gc", "gct"), (*DEFAULT_SITES, "convs"))


@dataclass(frozen=True)
class Arm:
    """A network to train: its norms as well or not, and the names of further trained parameters' modules."""

    model: nn.Module
    norms: bool = False
    also: str | None = None
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arms:
    """How each arm is made from the network that all start from.

    Args:
        start: the network.
        scout: returns the operations that scout chooses from candidates under a budget, and what it chose from.
    """

    start: LoadedNetwork
    scout: Callable[[Candidates, int], Mapping[str, Any]]

    @cached_property
    def budget(self) -> int:
        """The most parameters that an arm may add: as many as the norms, or as SE at all residual branches, have."""
        se = attn_surgeon.insert(self.start.model, "se", example=self.start.example, at="residual")
        return max(parameters(se) - parameters(self.start.model), norm_parameters(self.start.model))

    def make(self, name: str, seed: int) -> Arm:
        """Return an arm by its name in ARMS, or by that with AND_NORMS behind it, whose norms are trained too."""
        return replace(ARMS[name.removesuffix(AND_NORMS)](self, seed), norms=name.endswith(AND_NORMS))

    def inserted(self, operations: Sequence[dict[str, Any]], seed: int) -> Arm:
        """Return the network with blocks."""
        model = copied(self.start.model)
        for step in operations:
            given = dict(step)
            model = attn_surgeon.insert(
                model, given.pop("block"), example=self.start.example, seed=seed, inplace=True, **given
            )
        return Arm(model, chosen=tuple(text(of_graft(graft)) for graft in list_grafts(model)))

    def scouted(self, seed: int, candidates: Candidates) -> Arm:
        """Return the network with the set that scout chooses."""
        return self.inserted(self.scout(candidates, self.budget)["operations"], seed)

    def random_sites(self, seed: int) -> Arm:
        """Return the network with as many grafts as scout's set, drawn from the candidates within the budget."""
        found = self.scout(USUAL, self.budget)
        drawn, left, places = random.Random(seed), self.budget, set[str]()
        steps: list[dict[str, Any]] = []
        for name, size in drawn.sample(found["candidates"], len(found["candidates"])):
            each = read(name)
            if len(steps) < found["chosen"] and each.place not in places and size <= left:
                left -= size
                places.add(each.place)
                steps.append({"block": each.block, each.side: each.site})
        return self.inserted(steps, seed)

    def adapters(self, seed: int) -> Arm:
        """Return the network with convolutional adapters at all residual branches, of the width that fits best."""
        sizes = [parameters(self._adapters(width, seed).model) for width in (1, 2)]
        fixed = 2 * sizes[0] - sizes[1] - parameters(self.start.model)  # besides what grows with the width
        return self._adapters(max(1, round((self.budget - fixed) / (sizes[1] - sizes[0]))), seed)

    def _adapters(self, width: int, seed: int) -> Arm:
        return self.inserted([{"block": ADAPTER, "options": {"width": width}, "at": "residual"}], seed)

    def lora(self, seed: int) -> Arm:
        """Return the network with LoRA (Hu et al., 2022) of rank one on its convolutions, by peft."""
        from peft import LoraConfig, inject_adapter_in_model

        model = copied(self.start.model)
        names = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d) and module.groups == 1 and module.in_channels > 3
        ]
        last = heads(model, self.start.example)
        config = LoraConfig(r=1, lora_alpha=1, target_modules=[name for name in names if name not in last])
        return Arm(inject_adapter_in_model(config, model), also="lora_")


def norm_parameters(model: nn.Module) -> int:
    """Return the number of parameters of the norms."""
    names = norm_names(model)
    return sum(own.numel() for name, own in model.named_parameters() if name in names)


ARMS: dict[str, Callable[[Arms, int], Arm]] = {
    "head": lambda arms, seed: Arm(copied(arms.start.model)),
    "scout": lambda arms, seed: arms.scouted(seed, USUAL),
    "scout, more sites": lambda arms, seed: arms.scouted(seed, WIDE),
    "se": lambda arms, seed: arms.inserted([{"block": "se", "at": "residual"}], seed),
    "random": Arms.random_sites,
    "adapter": Arms.adapters,
    "lora": Arms.lora,
}
SET_ARMS = (*ARMS, *(f"{name}{AND_NORMS}" for name in ARMS))
