"""Candidates: blocks at sites, all standing in one network at once as exact identities.

Because each is the identity, the features at every site are the original's, and the gradient of each candidate's
closing parameters is the one that it would have if it stood there alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.blocks.base.gate_report import closing_parameters
from attn_surgeon.errors import PlanError
from attn_surgeon.finetune.freezing import freeze, train_mode
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.operations.insert import insert_block
from attn_surgeon.surgery.installed_grafts import InstalledGraft, bypassed, list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.plan import Refusal
from attn_surgeon.surgery.rewrite.placement import Side
from attn_surgeon.surgery.sites.selection import Selection

Opened = tuple[BlockSpec, dict[str, Tensor]]  # a block and the state dict that it has after a step


@dataclass(frozen=True, order=True)
class Candidate:
    """One block at one site.

    >>> Candidate("layer3", "after", "se").place
    'after layer3'
    """

    site: str
    side: Side
    block: str

    @property
    def place(self) -> str:
        """Where the block would be, such as `after layer3`."""
        return f"{self.side} {self.site}"


@dataclass(frozen=True)
class Lineup:
    """A copy of a network with candidates in it; only their closing parameters have gradients.

    Args:
        model: the network, in the mode in which grafts are trained with a frozen base.
        grafts: the candidates in the order of the network's modules.
        refusals: the sites that cannot take a block.
    """

    model: nn.Module
    grafts: dict[Candidate, InstalledGraft]
    refusals: tuple[Refusal, ...] = ()
    _closing: dict[Candidate, dict[str, Tensor]] = field(default_factory=dict)

    def closing(self, candidate: Candidate) -> dict[str, Tensor]:
        """Return the closing parameters of a candidate, by their names in its block."""
        if candidate not in self._closing:
            self._closing[candidate] = closing_parameters(self.grafts[candidate].block)
        return self._closing[candidate]

    @contextmanager
    def opened(self, steps: dict[Candidate, Tensor]) -> Iterator[None]:
        """Add a step (P,) to the closing parameters of each of these candidates until the context ends.

        The others are the identity, and are not computed.
        """
        closed = [graft.block for candidate, graft in self.grafts.items() if candidate not in steps]
        before = {candidate: [p.detach().clone() for p in self.closing(candidate).values()] for candidate in steps}
        try:
            for candidate, step in steps.items():
                self.move(candidate, step)
            with bypassed(closed):
                yield
        finally:
            with torch.no_grad():
                for candidate, values in before.items():
                    for parameter, value in zip(self.closing(candidate).values(), values, strict=True):
                        parameter.copy_(value)

    @torch.no_grad()
    def move(self, candidate: Candidate, step: Tensor) -> None:
        """Add a step (P,) to the closing parameters of a candidate."""
        parameters = list(self.closing(candidate).values())
        for parameter, part in zip(parameters, torch.split(step, [p.numel() for p in parameters]), strict=True):
            parameter.add_(part.view_as(parameter))


def line_up(
    network: LoadedNetwork,
    specs: Sequence[BlockSpec],
    selection: Selection,
    *,
    seed: int = 0,
) -> Lineup:
    """Insert candidates into a copy of a network.

    Args:
        network: the network.
        specs: the blocks to insert at each of the chosen sites.
        selection: the sites.
        seed: the seed of the blocks' randomly initialised layers.

    Raises:
        PlanError: if no site can take any of the blocks.
    """
    model = copied(network.model)
    before = {graft.path for graft in list_grafts(model)}
    refusals = _insert_each(model, specs, selection, network.example, seed)
    lineup = Lineup(model, {of_graft(new): new for new in list_grafts(model) if new.path not in before}, refusals)
    _only_closing_parameters(lineup, network.example)
    return lineup


def keep_open(lineup: Lineup, opened: Mapping[Candidate, Opened], example: Tensor, seed: int = 0) -> Lineup:
    """Return a line-up without the chosen candidates, which stay in its network with the states that they have.

    Those of another line-up are inserted on top, in place.
    """
    there = {of_graft(graft) for graft in list_grafts(lineup.model)}
    others = [(spec, each) for each, (spec, _) in opened.items() if each not in there]
    insert_candidates(lineup.model, others, example, seed)
    for graft in list_grafts(lineup.model):
        if (each := of_graft(graft)) in opened:
            graft.block.load_state_dict(opened[each][1])
    return replace(lineup, grafts={each: graft for each, graft in lineup.grafts.items() if each not in opened})


def insert_candidates(
    model: nn.Module, chosen: Iterable[tuple[BlockSpec, Candidate]], example: Tensor, seed: int = 0
) -> None:
    """Insert candidates into a network in place, all of one block and side together, as a recipe of them does."""
    sites: dict[tuple[BlockSpec, Side], list[str]] = {}
    for spec, each in chosen:
        sites.setdefault((spec, each.side), []).append(each.site)
    for (spec, side), names in sites.items():
        insert_block(model, spec, Selection.read(**{side: names}), example, seed=seed, inplace=True)


def of_graft(graft: InstalledGraft) -> Candidate:
    """Return the candidate that a graft is."""
    return Candidate(graft.graft.site, graft.graft.side, graft.graft.block["name"])


def _insert_each(
    model: nn.Module, specs: Sequence[BlockSpec], selection: Selection, example: Tensor, seed: int
) -> tuple[Refusal, ...]:
    """Insert each block at all sites that can take it, in place; raise PlanError where none can take any."""
    refusals: list[Refusal] = []
    errors: list[PlanError] = []
    for spec in specs:
        try:
            plan = insert_block(model, spec, selection, example, seed=seed, inplace=True).plan
            refusals += [Refusal(item.site, item.side, f"{spec.name}: {item.reason}") for item in plan.refusals]
        except PlanError as error:
            errors.append(error)
    if len(errors) == len(specs):
        raise errors[0]
    return tuple(refusals)


def _only_closing_parameters(lineup: Lineup, example: Tensor) -> None:
    """Put the network in the mode of a fine-tune with a frozen base, with gradients of closing parameters alone."""
    norms = freeze(lineup.model, FinetuneSettings(freeze="base"), example)
    train_mode(lineup.model, norms)
    lineup.model.requires_grad_(False)
    for candidate in lineup.grafts:
        for parameter in lineup.closing(candidate).values():
            parameter.requires_grad_(True)
