"""How a block starts as exactly the identity, and how its gate is applied.

The gate of most blocks is a sigmoid. Times two it is 1 + tanh(z / 2): exactly 1 at z = 0 in every precision, with
the slope of the published gate doubled and its range (0, 2) instead of (0, 1). Only the layer that makes z is
zeroed, so it has a gradient at the first step and everything before it from the second on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

INITS = ("identity", "paper")


def start_gate(init: str, last: nn.Module) -> float:
    """Zero the parameters of the gate's last layer for `identity`; give the factor the sigmoid is multiplied by."""
    start_at_zero(init, last)
    return 1.0 if init == "paper" else 2.0


def start_at_zero(init: str, layer: nn.Module) -> None:
    """Zero a layer for `identity`: the last of a residual branch, or one before a softmax over channels or a gate.

    Those two are saturated by large features and then learn nothing; in their middle they learn from any.
    """
    if init == "paper":
        return
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


@torch.no_grad()
def start_product(init: str, last: nn.Conv2d) -> None:
    """Let the layer that makes what features are multiplied by, without a sigmoid, make one for `identity`."""
    if init == "paper":
        return
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.ones_(last.bias)


@torch.no_grad()
def start_hidden(init: str, hidden: nn.Linear | nn.Conv2d) -> None:
    """Pair the units before a ReLU, for `identity`, with opposite signs: one of each pair is always on.

    A narrow hidden layer is otherwise often off as a whole, and then nothing in the block but its last bias learns.
    A unit without a partner gets positive weights, which keep it on for features that follow a ReLU.
    """
    if init == "paper":
        return
    pairs = hidden.weight.shape[0] // 2
    for parameter in hidden.parameters():
        parameter[pairs : 2 * pairs] = -parameter[:pairs]
        parameter[2 * pairs :] = parameter[2 * pairs :].abs()
    # all of one sign they add up, which half precision may not hold
    hidden.weight[2 * pairs :] /= math.sqrt(hidden.weight[0].numel())


def hard_sigmoid(z: Tensor) -> Tensor:
    """Return z / 6 + 1 / 2, at least 0 and at most 1: exactly one half at 0, which (z + 3) · (1 / 6) is not."""
    return (z / 6 + 0.5).clamp(0, 1)


def apply_gate(x: Tensor, z: Tensor, factor: float, gate: Callable[[Tensor], Tensor] = torch.sigmoid) -> Tensor:
    """Multiply (N, C, H, W) features by factor · σ(z), or another gate, in their precision; z may be (N, C)."""
    gates = (factor * gate(z)).to(x.dtype)
    return x * (gates.unsqueeze(-1).unsqueeze(-1) if gates.ndim == 2 else gates)
