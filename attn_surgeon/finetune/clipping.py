"""Clip the gradients of the grafts separately from all others.

Clipped together, large gradients of the grafts would shrink the steps of the base and the head, which would then train
more slowly than in a control without grafts.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def clip_gradients(optimizer: Any, maximum: float) -> Tensor:
    """Clip the gradient norm of the grafts and that of all other parameters; return the sum of both norms.

    Args:
        optimizer: an optimizer with the groups of `parameter_groups`.
        maximum: the maximum norm of each of the two.
    """
    parts: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        parts.setdefault(group["group"].partition(" ")[0], []).extend(group["params"])
    norms = [nn.utils.clip_grad_norm_(parameters, maximum) for parameters in parts.values()]
    return sum(norms[1:], norms[0])
