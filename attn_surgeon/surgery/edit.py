"""Install grafts in a network, check its output, and remove grafts: the only place that edits a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import fx, nn

from attn_surgeon.errors import first_line
from attn_surgeon.surgery.installed_grafts import graph_modules_with, list_grafts
from attn_surgeon.surgery.plan import Graft, Refusal
from attn_surgeon.surgery.rewrite.binding import UntraceableError
from attn_surgeon.surgery.rewrite.expected_grafts import Expected, expect, expected_of, forget, remember
from attn_surgeon.surgery.rewrite.generated_code import write_code
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of
from attn_surgeon.surgery.rewrite.graph_module import drop_calls, grafted, graphs_of, set_graphs
from attn_surgeon.surgery.rewrite.operated_class import install, put_grafts, restore, set_state

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The grafts that were made, and those refused because the output changed."""

    made: tuple[Graft, ...]
    refused: tuple[Refusal, ...]


def perform(
    model: nn.Module,
    grafts: Sequence[Graft],
    blocks: Sequence[nn.Module],
    keys: Sequence[str] | None = None,
) -> None:
    """Install grafts in place, all of them or none; raise UntraceableError where a placement cannot be written.

    `keys` are the names of the grafts within their owners, which an artefact stores; by default, unused names are made.
    """
    by_owner: dict[str, list[tuple[Graft, nn.Module, str]]] = {}
    for graft, block, key in zip(grafts, blocks, keys or [""] * len(grafts), strict=True):
        by_owner.setdefault(graft.placement.owner, []).append((graft, block, key))
    with _restored_on_failure(model):
        for owner, group in by_owner.items():
            _perform_in(model.get_submodule(owner), group)
        _remember(model)


def _perform_in(owner: nn.Module, group: Sequence[tuple[Graft, nn.Module, str]]) -> None:
    existing = grafts_of(owner)
    if RESERVED in owner._modules and existing is None:
        raise UntraceableError(f"it has a child called '{RESERVED}' already")
    grafts = Grafts() if existing is None else existing.kept()
    for graft, block, key in group:
        grafts.add(key or _unused_key(grafts, graft.placement.key), block, graft)
    _write(owner, grafts)


def _write(owner: nn.Module, grafts: Grafts) -> None:
    """Generate a module's code and class for exactly these grafts; without any, restore the original."""
    placements = {key: grafts.record(key).placement for key in grafts}
    grafts.train(owner.training)
    if isinstance(owner, fx.GraphModule):
        graphs = [grafted(graph, placements) for graph in graphs_of(owner)]
        put_grafts(owner, grafts)
        set_graphs(owner, graphs)
    elif placements or expected_of(owner) is not None:
        install(owner, grafts, write_code(owner, placements))
    else:
        restore(owner)


def _unused_key(grafts: Grafts, key: str) -> str:
    count = 1
    while (unused := key if count == 1 else f"{key}_{count}") in grafts:
        count += 1
    return unused


def _remember(model: nn.Module) -> None:
    """Record the grafts of a network on it, so that its forward raises for a lost one; without any, drop the record."""
    for module in expect(model):
        _write(module, grafts_of(module) or Grafts())


@dataclass(frozen=True)
class _State:
    """A snapshot of what surgery changes in a module: its class, children, expected grafts and fx graphs."""

    module: nn.Module
    cls: type[nn.Module]
    children: dict[str, nn.Module | None]
    expected: Expected | None
    graphs: tuple[fx.Graph, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Return a snapshot of a module; references are enough, since surgery replaces containers and graphs."""
        graphs = tuple(graphs_of(module)) if isinstance(module, fx.GraphModule) else ()
        return cls(module, type(module), dict(module._modules), expected_of(module), graphs)

    def restore(self) -> None:
        set_state(self.module, self.cls, self.children)
        remember(self.module, self.expected)
        if isinstance(self.module, fx.GraphModule) and list(self.graphs) != graphs_of(self.module):
            set_graphs(self.module, self.graphs)


def _snapshot(model: nn.Module) -> list[_State]:
    return [_State.of(module) for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]


def _restore(before: Sequence[_State]) -> None:
    for state in before:
        state.restore()


@contextmanager
def _restored_on_failure(model: nn.Module) -> Iterator[None]:
    before = _snapshot(model)
    try:
        yield
    except BaseException:
        _restore(before)
        raise


def perform_checked(
    model: nn.Module,
    grafts: Sequence[Graft],
    blocks: Sequence[nn.Module],
    find_fault: Callable[[], str],
) -> Outcome:
    """Install grafts in place and run the network; where its output changed, try the alternative placements of each.

    Args:
        model: the network.
        grafts: the planned grafts.
        blocks: their blocks.
        find_fault: a function that runs the network and returns what is wrong with it, or an empty text.

    Returns:
        The grafts that were made, at the placement that worked, and those refused because none did.
    """
    before = _snapshot(model)
    try:
        perform(model, grafts, blocks)
        reason = find_fault()
        if not reason:
            return Outcome(tuple(grafts), ())
    except Exception as error:  # of any kind: the grafts are then tried one by one
        reason = first_line(error)
    _restore(before)
    _logger.info("the grafts cannot be made as planned, and are made one by one: %s", reason)
    made: list[Graft] = []
    refused: list[Refusal] = []
    for graft, block in zip(grafts, blocks, strict=True):
        result = _perform_one(model, graft, block, find_fault)
        if isinstance(result, Graft):
            made.append(result)
        else:
            refused.append(result)
    return Outcome(tuple(made), tuple(refused))


def _perform_one(model: nn.Module, graft: Graft, block: nn.Module, find_fault: Callable[[], str]) -> Graft | Refusal:
    before = _snapshot(model)
    reason = ""
    for placement in (graft.placement, *graft.alternatives):
        moved = graft.moved(placement)
        try:
            perform(model, [moved], [block])
            reason = find_fault()
            if not reason:
                return moved
        except Exception as error:
            reason = first_line(error)
        _restore(before)
        owner = placement.owner or "the network"
        _logger.info("%s: not %s in %s: %s", graft.place, placement.how, owner, reason)
    return Refusal(graft.site, graft.side, reason)


def take_out(model: nn.Module, chosen: Callable[[Graft], bool]) -> list[Graft]:
    """Remove the chosen grafts in place and return them; modules left without grafts are restored to the original.

    Grafts that other code has lost are removed from the record of expected grafts.
    """
    installed = [item for item in list_grafts(model) if chosen(item.graft)]
    forgotten = [graft for module in model.modules() for graft in forget(module, chosen)]
    for item in installed:
        for graph_module, target in graph_modules_with(model, item):
            drop_calls(graph_module, target.__eq__)
    for owner in dict.fromkeys(item.owner for item in installed):
        module = model.get_submodule(owner)
        grafts = grafts_of(module)
        assert grafts is not None
        grafts.dropped.update(item.key for item in installed if item.owner == owner)
        _write(module, grafts.kept())
    _remember(model)
    removed = [item.graft for item in installed]
    return [*removed, *(graft for graft in forgotten if graft not in removed)]
