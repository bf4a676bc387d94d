"""Clip gradients, those of the grafts apart from all others.

Were they clipped together, large gradients of the grafts would shorten the steps of the base and the head, and a
control without grafts would be trained with longer ones.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def clip_gradients(optimizer: Any, maximum: float) -> Tensor:
    """Scale gradients down to a maximum norm, over the grafts and over all else; return the sum of both norms.

    Args:
        optimizer: one with the groups of `parameter_groups`.
        maximum: the largest norm of either.
    """
    parts: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        parts.setdefault(group["group"].partition(" ")[0], []).extend(group["params"])
    norms = [nn.utils.clip_grad_norm_(parameters, maximum) for parameters in parts.values()]
    return sum(norms[1:], norms[0])
