"""Check the grafts of a network that somebody else's code has trained: they are there, have changed, and run.

The trained network may be wrapped (by `torch.compile`, `DistributedDataParallel`, a LightningModule), and may contain
copies of itself, such as an average of the weights. Each graft is therefore found at the end of a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attn_surgeon.errors import LostGraftError, TrainingError, first_few, function
from attn_surgeon.surgery.installed_grafts import InstalledGraft, list_grafts, ran, require_grafts


@dataclass(frozen=True)
class NamedGraft:
    """A graft of the network before training, named by its place, and copies of its parameters."""

    name: str
    graft: InstalledGraft
    parameters: Mapping[str, Tensor]

    def copies_in(self, model: nn.Module) -> list[InstalledGraft]:
        """Return this graft in a network, and in the copies of the network that it contains."""
        return [item for item in list_grafts(model) if item.place == self.graft.place and self._ends_as(item.path)]

    def _ends_as(self, path: str) -> bool:
        longer, shorter = sorted((f".{path}", f".{self.graft.path}"), key=len, reverse=True)
        return longer.endswith(shorter)

    def is_unchanged_in(self, model: nn.Module) -> bool:
        """Return whether no copy in a network has other parameters; False for a graft without any."""
        after = [dict(item.block.named_parameters()) for item in self.copies_in(model)]
        return bool(self.parameters) and all(_is_same(self.parameters, parameters) for parameters in after)


def named_grafts(model: nn.Module) -> list[NamedGraft]:
    """Return the grafts of a network; those after the first at one place have a number in their name."""
    named, seen = [], Counter[str]()
    for item in list_grafts(model):
        seen[item.place] += 1
        name = item.place if seen[item.place] == 1 else f"{item.place} ({seen[item.place]})"
        values = {key: value.detach().cpu().clone() for key, value in item.block.named_parameters()}
        named.append(NamedGraft(name, item, values))
    return named


def require_trained(trained: nn.Module, before: list[NamedGraft]) -> tuple[str, ...]:
    """Return the names of unchanged grafts.

    Raises:
        LostGraftError: the trained network has lost a graft.
        TrainingError: no graft has changed, or a network without grafts has got some.
    """
    if not before and list_grafts(trained):
        what = "the trained control has grafts: the trainer trained another network"
        raise TrainingError(what, "train", "train the network that is passed, not one defined outside")
    require_grafts(trained)
    lost = [item.name for item in before if not item.copies_in(trained)]
    if lost:
        raise LostGraftError(
            f"the trained network has no graft {first_few(lost)}: the trainer trained another network",
            "train",
            "train the network that is passed, and return it where it was copied or wrapped",
        )
    unchanged = tuple(item.name for item in before if item.is_unchanged_in(trained))
    if unchanged and len(unchanged) == len(before):
        raise TrainingError(
            "training has changed no graft",
            first_few(unchanged),
            f"give the optimizer their parameters: {function('graft_parameters(network)', 'finetune')}",
        )
    return unchanged


@contextmanager
def all_run(trained: nn.Module, grafts: list[NamedGraft], where: str) -> Iterator[None]:
    """Raise LostGraftError at the end of the context if a graft has run in no copy of the network."""
    with ran(trained) as not_run:
        yield
    idle = [item.name for item in grafts if all(copy.path in not_run for copy in item.copies_in(trained))]
    if idle:
        raise LostGraftError(
            f"the grafts {first_few(idle)} do not run when the trained network is evaluated",
            where,
            "evaluate the network that is passed, not one that is built or converted without grafts",
        )


def _is_same(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    """Return whether parameters have the same names and values, up to a conversion to another dtype."""
    return before.keys() == after.keys() and all(
        torch.equal(value.to(after[name].dtype), after[name].detach().cpu()) for name, value in before.items()
    )
