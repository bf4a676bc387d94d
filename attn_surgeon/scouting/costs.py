"""What candidates cost, parameters, MACs and latency, and the budget that a set of them may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.errors import SettingsError, excerpt, option
from attn_surgeon.measure.cost import graft_costs, parameters
from attn_surgeon.measure.latency import time_interleaved, timed
from attn_surgeon.scouting.candidates import Candidate, Lineup
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import hooked, run_network

_ROUNDS = 7  # of timings, of which the least is taken


@dataclass(frozen=True)
class CandidateCost:
    """Parameters, multiply-accumulates for one image, and the seconds that the block takes for one image."""

    parameters: int
    macs: int
    seconds: float


@dataclass(frozen=True)
class Budget:
    """The most parameters that a set may add, and the most seconds for one image, if they are limited."""

    parameters: float | None
    seconds: float | None = None

    def share(self, cost: CandidateCost) -> float:
        """Return the larger of the shares of the two limits that a candidate takes.

        >>> Budget(1000.0, 0.01).share(CandidateCost(100, 0, 0.005))
        0.5
        """
        shares = [
            used / most if most else float("inf")
            for used, most in ((cost.parameters, self.parameters), (cost.seconds, self.seconds))
            if most is not None
        ]
        return max(shares, default=0.0)


def read_budget(text: str | float, whole: float, name: str, *, percent_only: bool = False) -> float:
    """Return a budget, `5%` of a whole or an amount, as an amount.

    Args:
        text: the budget.
        whole: what per cent are of.
        name: the option, for errors.
        percent_only: whether an amount is refused.

    Raises:
        SettingsError: if it is not a number above 0.

    >>> read_budget("5%", 1000, "budget"), read_budget(200, 1000, "budget")
    (50.0, 200.0)
    """
    written = str(text).strip()
    try:
        amount = float(written.removesuffix("%"))
    except ValueError:
        amount = 0.0
    if not 0 < amount < float("inf") or (percent_only and not written.endswith("%")):
        hint = "write it as 5%" if percent_only else "write it as 5%, or as a number of parameters"
        raise SettingsError(f"no budget can be read from '{excerpt(written)}'", option(name), hint)
    return whole * amount / 100 if written.endswith("%") else amount


def candidate_costs(lineup: Lineup, network: LoadedNetwork) -> tuple[dict[Candidate, CandidateCost], CandidateCost]:
    """Return the cost of each candidate on one image, and of the network that they are in, without MACs."""
    counted = graft_costs(lineup.model, network.example)
    inputs: dict[str, list[Any]] = {graft.path: [] for graft in lineup.grafts.values()}
    handles = (
        graft.block.register_forward_pre_hook(lambda _, args, path=graft.path: inputs[path].append(args))
        for graft in lineup.grafts.values()
    )
    with hooked(handles):
        run_network(lineup.model, network.example)
    blocks = {each: graft.block for each, graft in lineup.grafts.items()}
    works = [partial(timed, network.model, network.example.to(next(network.model.parameters()).device))]
    works += [partial(_timed_block, block, inputs[lineup.grafts[each].path]) for each, block in blocks.items()]
    with torch.inference_mode(), mode(network.model, training=False), mode(lineup.model, training=False):
        least = [min(seconds) for seconds in time_interleaved(works, _ROUNDS)]
    costs = {
        each: CandidateCost(counted[graft.path].parameters, counted[graft.path].macs, seconds)
        for (each, graft), seconds in zip(lineup.grafts.items(), least[1:], strict=True)
    }
    return costs, CandidateCost(parameters(network.model), 0, least[0])


def _timed_block(block: nn.Module, calls: Sequence[Any]) -> float:
    """Return the seconds that all calls of a block in one forward pass take."""
    seconds = 0.0
    for first, *others in calls:
        seconds += timed(partial(_call, block, others), first)
    return seconds


def _call(block: nn.Module, others: Sequence[Any], first: torch.Tensor) -> Any:
    return block(first, *others)
