"""Count the parameters and multiply-accumulates (MACs) of networks, grafts and blocks.

MACs are those of convolutions and matrix products, as `torch.utils.flop_counter` counts them; pooling, sigmoids and
the product with the gate are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import Example, hooked, run_network


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-accumulates for one example."""

    parameters: int
    macs: int


def parameters(module: nn.Module) -> int:
    """Return the number of parameters of a module.

    >>> parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def macs(run_once: Callable[[], Any]) -> int:
    """Return the multiply-accumulates of one call of a function."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run_once()
    return int(counter.get_total_flops()) // 2


def graft_costs(model: nn.Module, example: Example) -> Mapping[str, Cost]:
    """Return the cost of each graft in one forward pass, by its path in the network."""
    grafts = list_grafts(model)
    inputs: dict[str, list[Any]] = {graft.path: [] for graft in grafts}
    handles = (
        graft.block.register_forward_pre_hook(lambda _, args, path=graft.path: inputs[path].append(args))
        for graft in grafts
    )
    with hooked(handles):
        run_network(model, example)
    return {graft.path: _cost(graft.block, inputs[graft.path]) for graft in grafts}


def _cost(block: nn.Module, calls: list[Any]) -> Cost:
    with mode(block, training=False):
        return Cost(parameters(block), sum(macs(partial(block, *args)) for args in calls))


def block_cost(block: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Return the cost of a block on features (N, C, H, W), counted on the meta device, to which it is moved."""
    with mode(block, training=False):
        return Cost(parameters(block), macs(lambda: block.to("meta")(torch.empty(shape, device="meta"))))
