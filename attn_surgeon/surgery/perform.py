"""Make grafts, check that nothing else changed, and take them out again: the only place that edits a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import fx, nn

from attn_surgeon.errors import first_line
from attn_surgeon.surgery.installed import list_grafts, tracing
from attn_surgeon.surgery.plan import Graft, Refusal
from attn_surgeon.surgery.rewrite.binding import UntraceableError
from attn_surgeon.surgery.rewrite.expected import Expected, expect, expected_of, forget, remember
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of
from attn_surgeon.surgery.rewrite.graph_module import drop_calls, grafted, graphs_of, set_graphs
from attn_surgeon.surgery.rewrite.operated import install, put_grafts, restore, set_state
from attn_surgeon.surgery.rewrite.rewrite import write_code

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The grafts that were made, and those refused once the output was compared."""

    made: tuple[Graft, ...]
    refused: tuple[Refusal, ...]


def perform(
    model: nn.Module,
    grafts: Sequence[Graft],
    blocks: Sequence[nn.Module],
    keys: Sequence[str] | None = None,
) -> None:
    """Make grafts in place, all of them or none; raise UntraceableError where a placement cannot be written.

    `keys` names the grafts within their owners, as an artefact does; without them free names are found.
    """
    by_owner: dict[str, list[tuple[Graft, nn.Module, str]]] = {}
    for graft, block, key in zip(grafts, blocks, keys or [""] * len(grafts), strict=True):
        by_owner.setdefault(graft.placement.owner, []).append((graft, block, key))
    with _undone_on_failure(model):
        for owner, group in by_owner.items():
            _perform_in(model.get_submodule(owner), group)
        _remember(model)


def _perform_in(owner: nn.Module, group: Sequence[tuple[Graft, nn.Module, str]]) -> None:
    found = grafts_of(owner)
    if RESERVED in owner._modules and found is None:
        raise UntraceableError(f"it has a child called '{RESERVED}' already")
    grafts = Grafts() if found is None else found.kept()
    for graft, block, key in group:
        grafts.add(key or _free_key(grafts, graft.placement.key), block, graft)
    _write(owner, grafts)


def _write(owner: nn.Module, grafts: Grafts) -> None:
    """Make a module have exactly these grafts; without any it is the original again."""
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


def _free_key(grafts: Grafts, key: str) -> str:
    count = 1
    while (free := key if count == 1 else f"{key}_{count}") in grafts:
        count += 1
    return free


def _remember(model: nn.Module) -> None:
    """Record a network's grafts on it, so that its forward notices a lost one; without any it is the original again."""
    for module in expect(model):
        _write(module, grafts_of(module) or Grafts())


@dataclass(frozen=True)
class _State:
    """What surgery changes of a module: its class, its children, the record of its grafts, its graphs."""

    module: nn.Module
    cls: type[nn.Module]
    children: dict[str, nn.Module | None]
    expected: Expected | None
    graphs: tuple[fx.Graph, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Return the state of a module; containers and graphs are never changed in place, so references are enough."""
        graphs = tuple(graphs_of(module)) if isinstance(module, fx.GraphModule) else ()
        return cls(module, type(module), dict(module._modules), expected_of(module), graphs)

    def put_back(self) -> None:
        """Restore the state."""
        set_state(self.module, self.cls, self.children)
        remember(self.module, self.expected)
        if isinstance(self.module, fx.GraphModule) and list(self.graphs) != graphs_of(self.module):
            set_graphs(self.module, self.graphs)


def _snapshot(model: nn.Module) -> list[_State]:
    return [_State.of(module) for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]


def _put_back(before: Sequence[_State]) -> None:
    for state in before:
        state.put_back()


@contextmanager
def _undone_on_failure(model: nn.Module) -> Iterator[None]:
    before = _snapshot(model)
    try:
        yield
    except BaseException:
        _put_back(before)
        raise


def perform_checked(
    model: nn.Module,
    grafts: Sequence[Graft],
    blocks: Sequence[nn.Module],
    find_fault: Callable[[], str],
) -> Outcome:
    """Make grafts in place and check them: where the output changed, try each graft's next placement.

    `find_fault` runs the network and returns what is wrong with it now, or an empty text. A graft that no placement
    makes without a fault is taken out again and refused.
    """
    before = _snapshot(model)
    try:
        perform(model, grafts, blocks)
        reason = find_fault()
        if not reason:
            return Outcome(tuple(grafts), ())
    except Exception as error:  # whatever broke, the grafts are now tried one by one
        reason = first_line(error)
    _put_back(before)
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
        _put_back(before)
        owner = placement.owner or "the network"
        _logger.info("%s: not %s in %s: %s", graft.place, placement.how, owner, reason)
    return Refusal(graft.site, graft.side, reason)


def take_out(model: nn.Module, chosen: Callable[[Graft], bool]) -> list[Graft]:
    """Take the chosen grafts out in place and list them; modules left without grafts are the originals again.

    Those that other code has lost are forgotten.
    """
    made = [item for item in list_grafts(model) if chosen(item.graft)]
    forgotten = [graft for module in model.modules() for graft in forget(module, chosen)]
    for item in made:
        for graph, target in tracing(model, item):
            drop_calls(graph, target.__eq__)
    for owner in dict.fromkeys(item.owner for item in made):
        module = model.get_submodule(owner)
        found = grafts_of(module)
        assert found is not None
        found.dropped.update(item.key for item in made if item.owner == owner)
        _write(module, found.kept())
    _remember(model)
    listed = [item.graft for item in made]
    return [*listed, *(graft for graft in forgotten if graft not in listed)]
