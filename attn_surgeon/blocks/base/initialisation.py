"""Initialise the layers before a gate such that they have a gradient from the first steps, for any features."""

from __future__ import annotations

import math

import torch
from torch import nn

INITS = ("identity", "paper")


def start_at_zero(init: str, layer: nn.Module) -> None:
    """Zero a layer for `identity`, such as one before a softmax over channels or before an inner gate.

    Large logits would saturate both, so that their gradient vanishes; at zero it does not.
    """
    if init == "paper":
        return
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


@torch.no_grad()
def start_hidden(init: str, hidden: nn.Linear | nn.Conv2d) -> None:
    """Initialise a layer before a ReLU, for `identity`, with pairs of opposite units, one of which is always active.

    Otherwise all units of a narrow hidden layer are often inactive, and then only the last bias of the block has a
    gradient. A unit without a partner gets positive weights, which keep it active for features after a ReLU.
    """
    if init == "paper":
        return
    pairs = hidden.weight.shape[0] // 2
    for parameter in hidden.parameters():
        parameter[pairs : 2 * pairs] = -parameter[:pairs]
        parameter[2 * pairs :] = parameter[2 * pairs :].abs()
    # weights of one sign add up, which may overflow in half precision
    hidden.weight[2 * pairs :] /= math.sqrt(hidden.weight[0].numel())
