"""Initialise the layers before a gate such that they learn from the first steps, whatever the features are."""

from __future__ import annotations

import math

import torch
from torch import nn

INITS = ("identity", "paper")


def start_at_zero(init: str, layer: nn.Module) -> None:
    """Zero a layer for `identity`, such as one before a softmax over channels or before an inner gate.

    Those two are saturated by large features and then learn nothing; in their middle they learn from any.
    """
    if init == "paper":
        return
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


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
