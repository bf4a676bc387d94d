"""The only place that edits a model: make grafts, check that nothing else changed, take them out again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from attn_surgeon.errors import first_line
from attn_surgeon.graph.forwards.binding import UntraceableError
from attn_surgeon.graph.forwards.operated import RESERVED, Grafts, grafts_of, is_operated, operate, reinstate, restore
from attn_surgeon.graph.forwards.rewrite import write_code
from attn_surgeon.graph.plan import Graft, Refusal


@dataclass(frozen=True)
class Outcome:
    """What a surgery made, and what it refused once it saw the output."""

    made: tuple[Graft, ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class Made:
    """A graft in a network: the module that owns it, its key there, and its block."""

    owner: str
    key: str
    graft: Graft
    block: nn.Module

    @property
    def path(self) -> str:
        """Give the dotted path of the graft's block in the network."""
        return f"{self.owner}.{RESERVED}.{self.key}".removeprefix(".")


def list_grafts(model: nn.Module) -> list[Made]:
    """List the grafts in a network, in the order of its modules."""
    return [
        Made(path, key, container.records[key], container[key])
        for path, module in model.named_modules()
        if (container := grafts_of(module)) is not None and is_operated(module)
        for key in container
    ]


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


def _perform_in(owner: nn.Module, group: Sequence[tuple[Graft, nn.Module, str]]) -> None:
    if RESERVED in owner._modules and not is_operated(owner):
        raise UntraceableError(f"it has a child called '{RESERVED}' already")
    grafts = _copy(grafts_of(owner))
    for graft, block, key in group:
        grafts.add(key or _free_key(grafts, graft.placement.key), block, graft)
    _write(owner, grafts)


def _write(owner: nn.Module, grafts: Grafts) -> None:
    """Give a module exactly these grafts; none gives the original back."""
    if len(grafts) == 0:
        restore(owner)
        return
    code = write_code(owner, {key: grafts.records[key].placement for key in grafts})
    grafts.train(owner.training)
    operate(owner, grafts, code)


def _copy(grafts: Grafts | None) -> Grafts:
    copy = Grafts()
    for key, block in grafts.items() if grafts is not None else ():
        assert grafts is not None
        copy.add(key, block, grafts.records[key])
    return copy


def _free_key(grafts: Grafts, key: str) -> str:
    count = 1
    while (free := key if count == 1 else f"{key}_{count}") in grafts:
        count += 1
    return free


Snapshot = list[tuple[nn.Module, type[nn.Module], Grafts]]


def _snapshot(model: nn.Module) -> Snapshot:
    """Note what every operated module is; grafts are never changed in place, so this is enough to come back to."""
    noted = [(module, type(module), grafts_of(module)) for module in model.modules() if is_operated(module)]
    return [(module, cls, grafts) for module, cls, grafts in noted if grafts is not None]


def _put_back(model: nn.Module, before: Snapshot) -> None:
    for module in [module for module in model.modules() if is_operated(module)]:
        restore(module)
    for module, cls, grafts in before:
        reinstate(module, cls, grafts)


@contextmanager
def _undone_on_failure(model: nn.Module) -> Iterator[None]:
    before = _snapshot(model)
    try:
        yield
    except BaseException:
        _put_back(model, before)
        raise


def perform_checked(
    model: nn.Module,
    grafts: Sequence[Graft],
    blocks: Sequence[nn.Module],
    fault: Callable[[], str],
) -> Outcome:
    """Make grafts in place and trust nothing: where the output changed, go on with each graft's next placement.

    `fault` runs the network and says what is wrong with it now; nothing, if empty. A graft that no placement
    makes without a change is taken out again and refused.
    """
    before = _snapshot(model)
    try:
        perform(model, grafts, blocks)
        if not fault():
            return Outcome(tuple(grafts), ())
    except Exception:  # whatever broke, the grafts are now tried one by one
        pass
    _put_back(model, before)
    made: list[Graft] = []
    refused: list[Refusal] = []
    for graft, block in zip(grafts, blocks, strict=True):
        result = _perform_one(model, graft, block, fault)
        if isinstance(result, Graft):
            made.append(result)
        else:
            refused.append(result)
    return Outcome(tuple(made), tuple(refused))


def _perform_one(model: nn.Module, graft: Graft, block: nn.Module, fault: Callable[[], str]) -> Graft | Refusal:
    before = _snapshot(model)
    reason = ""
    for placement in (graft.placement, *graft.alternatives):
        moved = graft.moved(placement)
        try:
            perform(model, [moved], [block])
            reason = fault()
            if not reason:
                return moved
        except Exception as error:
            reason = first_line(error)
        _put_back(model, before)
    return Refusal(graft.site, graft.side, reason)


def take_out(model: nn.Module, chosen: Callable[[Graft], bool]) -> list[Graft]:
    """Take the chosen grafts out in place and list them; modules left without grafts are the originals again."""
    taken: list[Graft] = []
    for module in [module for module in model.modules() if is_operated(module)]:
        grafts = _copy(grafts_of(module))
        keys = [key for key in grafts if chosen(grafts.records[key])]
        for key in keys:
            taken.append(grafts.records[key])
            grafts.drop(key)
        if keys:
            _write(module, grafts)
    return taken


@contextmanager
def bypassed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Let blocks pass their input on, for a while, without computing anything."""
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_forward(block, lambda x, *_, **__: x))
        yield


@contextmanager
def _forward(block: nn.Module, function: Callable[..., Any]) -> Iterator[None]:
    """Give one module another forward for a while."""
    own = vars(block).get("forward")
    vars(block)["forward"] = function
    try:
        yield
    finally:
        del vars(block)["forward"]
        if own is not None:
            vars(block)["forward"] = own


@contextmanager
def ran(model: nn.Module) -> Iterator[set[str]]:
    """Watch which grafts run, without hooks, for these keep fused kernels off; the set names those that have not."""
    made = list_grafts(model)
    missed = {item.path for item in made}
    with ExitStack() as stack:
        for item in made:
            stack.enter_context(_forward(item.block, _noting(item, missed)))
        yield missed


def _noting(made: Made, missed: set[str]) -> Callable[..., Any]:
    forward = made.block.forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        missed.discard(made.path)
        return forward(*args, **kwargs)

    return noted
