"""Whether the network's output depends on the places of a map: they are made NaN, and the output is looked at.

Attention with a class token leaves the other tokens unread after its last block, though they flow on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.graph import running
from attn_surgeon.graph.carriers import Carriers
from attn_surgeon.graph.dataflow import Dataflow
from attn_surgeon.graph.items import get_item, put_item
from attn_surgeon.graph.observe import Observation, observe
from attn_surgeon.graph.surgery import Made


class Influence:
    """Tell, by number, which of a run's maps matter; only those with prefix tokens are in doubt."""

    def __init__(self, seen: Observation, carriers: Carriers) -> None:
        self.seen, self.carriers = seen, carriers
        self._known: dict[str, bool] = {}

    def __call__(self, number: int) -> bool:
        """Say whether the output depends on a value's places; one that only functions carry is not looked at."""
        sites = [site for site in self.carriers.after.get(number, ()) if site.output is not None]
        prefix = next((site.output.prefix for site in reversed(sites) if site.output is not None), 0)
        if not prefix:
            return True
        modules = [site.name for site in sites if site.name.partition(":")[0] in self.seen.calls]
        if not modules:
            return False
        name = modules[-1]
        if name not in self._known:
            self._known[name] = spreads(self.seen.model, self.seen.example, name, prefix)
        return self._known[name]


def unread(model: nn.Module, example: running.Example, made: Sequence[Made]) -> list[Made]:
    """List the grafts that the output cannot depend on: no path leads there, or only their prefix tokens are read."""
    seen = observe(model, example)
    flow = Dataflow(seen)
    values = {item.path: flow.number(seen.grafted.get(id(item.block))) for item in made}
    prefixes = {item.path: item.graft.feature.prefix for item in made}
    return [
        item
        for item in made
        if values[item.path] not in flow.reaching
        or (prefixes[item.path] and not spreads(model, example, item.path, prefixes[item.path]))
    ]


def spreads(model: nn.Module, example: running.Example, name: str, prefix: int) -> bool:
    """Make what flows after a site NaN but for its prefix tokens, and say whether the network's output has NaN."""
    path, _, key = name.partition(":")

    def poison(_: nn.Module, __: Any, output: Any) -> Any:
        return put_item(output, key, _poisoned(get_item(output, key), prefix)) if key else _poisoned(output, prefix)

    handle = model.get_submodule(path).register_forward_hook(poison)
    try:
        output = running.run(model, example)
    finally:
        handle.remove()
    given = [tensor for tensor in running.tensors(output) if tensor.is_floating_point()]
    return any(tensor.is_meta or bool(tensor.isnan().any()) for tensor in given)  # meta tensors cannot tell


def _poisoned(tokens: Tensor, prefix: int) -> Tensor:
    poisoned = tokens.clone()
    poisoned[:, prefix:] = torch.nan
    return poisoned
