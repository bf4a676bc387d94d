"""How a printed module is compared with the block that has its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.blocks import get_card
from attn_surgeon.blocks.base.registry import get_factory

from ..helpers import at_random

State = dict[str, Tensor]


@dataclass(frozen=True)
class Print:
    """A printed module, and the options that make a block of the catalogue the same.

    `names` is from the block's layers and parameters to the printed ones. `folded` is from a norm to the layer before
    it, or to what it adds, whose bias the block leaves out: its running mean is that much smaller. `derive` returns
    what is not renamed.
    """

    source: str
    block: str
    options: Mapping[str, Any]
    module: Callable[[int], nn.Module]
    names: Mapping[str, str] = field(default_factory=dict)
    folded: Mapping[str, str | Callable[[State], Tensor]] = field(default_factory=dict)
    derive: Callable[[State], State] = lambda given: {}
    channels: tuple[int, ...] = (32,)
    size: tuple[int, int] = (6, 5)
    images: int = 3
    flipped: bool = False

    def __str__(self) -> str:
        """Name the module."""
        return f"{self.block}: {self.source}"

    def state(self, given: State) -> State:
        """Return the block's state dict with the printed module's weights."""
        own = self.derive(given)
        for layer, name in self.names.items():
            found = {key.removeprefix(name): value for key, value in given.items() if key.startswith(name)}
            own |= {layer + rest: value for rest, value in found.items() if rest == "" or rest.startswith(".")}
        for norm, before in self.folded.items():
            bias = given[f"{before}.bias"] if isinstance(before, str) else before(given)
            own[f"{norm}.running_mean"] = own[f"{norm}.running_mean"] - bias
        return own


@torch.no_grad()
def differences(case: Print, channels: int, seed: int = 0) -> Iterator[tuple[str, float]]:
    """Yield the largest difference of outputs and of running statistics, in evaluation and in training."""
    torch.manual_seed(seed)
    printed = at_random(case.module(channels)).double()
    for weight in [each for each in printed.parameters() if each.ndim > 1]:
        weight.copy_(weight / max(1, weight[0].numel()) ** 0.5)
    block = get_factory(case.block)(channels, **case.options, init="paper").double()
    load(block, case.state(printed.state_dict()))
    inputs = [torch.randn(case.images, channels, *case.size).double() for _ in range(get_card(case.block).inputs)]
    for mode in ("eval", "train"):
        made, expected = (
            module.train(mode == "train")(*[each.clone() for each in inputs]) for module in (block, printed)
        )
        yield mode, (made - expected).abs().max().item()
    own, theirs = block.state_dict(), case.state(printed.state_dict())
    running = [key for key in own if "running" in key]
    yield "statistics", max(((own[key] - theirs[key]).abs().max().item() for key in running), default=0.0)


def load(block: nn.Module, state: State) -> None:
    """Load the values that the block has, each in the shape it has there; none of its own may be left."""
    own = block.state_dict()
    missing = own.keys() - state.keys()
    assert not missing, f"{sorted(missing)} are not among {sorted(state)}"
    block.load_state_dict({key: state[key].reshape(value.shape) for key, value in own.items()})
