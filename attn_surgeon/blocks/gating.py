"""How a block starts as exactly the identity, and how its gate is applied.

The gate of most blocks is a sigmoid. Times two it is 1 + tanh(z / 2): exactly 1 at z = 0 in every precision, with
the slope of the published gate doubled and its range (0, 2) instead of (0, 1). Only the layer that makes z is
zeroed, so it has a gradient at the first step and everything before it from the second on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

INITS = ("identity", "paper")


def start_gate(init: str, last: nn.Module) -> float:
    """Zero the parameters of the gate's last layer for `identity`; give the factor the sigmoid is multiplied by."""
    if init == "paper":
        return 1.0
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return 2.0


def apply_gate(x: Tensor, z: Tensor, factor: float) -> Tensor:
    """Multiply (N, C, H, W) features by factor · σ(z), in the features' own precision."""
    return x * (factor * torch.sigmoid(z)).to(x.dtype)
