"""Whether the network's output depends on the places of a map: they are made NaN, and the output is looked at.

Attention with a class token leaves the other tokens unread after its last block, though they flow on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.graph import running
from attn_surgeon.graph.carriers import Carriers
from attn_surgeon.graph.observe import Observation


class Influence:
    """Tell, by number, which of a run's maps matter; only those with prefix tokens are in doubt."""

    def __init__(self, seen: Observation, carriers: Carriers) -> None:
        self.seen, self.carriers = seen, carriers

    def __call__(self, number: int) -> bool:
        """Say whether the output depends on a value's places; one that only functions carry is not looked at."""
        modules = [site for site in self.carriers.after.get(number, ()) if site.name in self.seen.calls]
        features = [site.output for site in self.carriers.after.get(number, ()) if site.output is not None]
        prefix = features[-1].prefix if features else 0
        if not prefix:
            return True
        return bool(modules) and spreads(self.seen.model, self.seen.example, modules[-1].name, prefix)


def spreads(model: nn.Module, example: running.Example, path: str, prefix: int) -> bool:
    """Make the output of one module NaN but for its prefix tokens, and say whether the network's output has NaN."""

    def poison(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        poisoned = output.clone()
        poisoned[:, prefix:] = torch.nan
        return poisoned

    handle = model.get_submodule(path).register_forward_hook(poison)
    try:
        output = running.run(model, example)
    finally:
        handle.remove()
    return any(bool(tensor.isnan().any()) for tensor in running.tensors(output) if tensor.is_floating_point())
