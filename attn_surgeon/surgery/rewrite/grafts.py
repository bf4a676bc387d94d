"""The container of the grafts of one module, a child under a reserved name, with the record of each graft."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExportError

RESERVED = "attn_surgeon"
_RECORD = "_attn_surgeon_graft"
# fx.Tracer.is_leaf_module looks at `module.__module__`, so an instance attribute makes a block one node in every trace.
_LEAF = "torch.nn.attn_surgeon"


def set_record(block: nn.Module, record: Any) -> None:
    """Set the record of the graft on its block; copies, pickles and modules rebuilt around the block keep it."""
    vars(block)[_RECORD] = record
    vars(block)["__module__"] = _LEAF


def record_of(block: nn.Module) -> Any | None:
    """Return the record of the graft that a block is, also where a library has wrapped the block; else None."""
    return next((vars(part)[_RECORD] for part in block.modules() if _RECORD in vars(part)), None)


@dataclass
class Run:
    """One call of a forward that was assigned to a module.

    Args:
        owner: the `id` of the module's container of grafts.
        before: the keys of its grafts that ran before the call and must not run again within it.
        recorded: the grafts that ran in the call, by the `id` of their container and their key.
    """

    owner: int
    before: frozenset[str] = frozenset()
    recorded: set[tuple[int, str]] = field(default_factory=set)

    def ran(self, grafts: Grafts, *, copies: bool) -> set[str]:
        """Return the keys of the grafts that ran; with `copies`, those of copies of the module too."""
        return {key for owner, key in self.recorded if copies or owner == id(grafts)}


class Runs:
    """The current calls of assigned forwards, by thread; a module and its copies share one object.

    The forward assigned to a copy may be a closure over the original module, whose grafts then run in the copy's call.
    """

    def __init__(self) -> None:
        self.by_thread: dict[int, list[Run]] = {}

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()

    @property
    def in_thread(self) -> list[Run]:
        """The current calls in this thread, the outermost first."""
        return self.by_thread.get(threading.get_ident(), [])

    @contextmanager
    def watched(self, grafts: Grafts, before: frozenset[str] = frozenset()) -> Iterator[Run]:
        """Record which grafts run in this thread until the context ends."""
        run, thread = Run(id(grafts), before), threading.get_ident()
        runs = self.by_thread.setdefault(thread, [])
        runs.append(run)
        try:
            yield run
        finally:
            runs.pop()
            if not runs:
                del self.by_thread[thread]

    def record(self, grafts: Grafts, key: str) -> bool:
        """Record that a graft runs, and return whether it ran before the current call, so that it must be skipped."""
        for run in self.in_thread:
            run.recorded.add((id(grafts), key))
        return any(run.owner == id(grafts) and key in run.before for run in self.in_thread)


class UncopiedDict(dict[int, Any]):
    """A cache that is empty in copies and pickles of the object that has it."""

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


class Grafts(nn.ModuleDict):
    """The grafts of one module, by key, in the order in which they were made.

    `records` are the grafts as planned, `dropped` the keys of those that were removed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, Any] = {}
        self.runs = Runs()
        self.dropped: set[str] = set()

    @property
    def references(self) -> UncopiedDict:
        """The references of the methods that were assigned to the module, by the `id` of the method."""
        return vars(self).setdefault("_references", UncopiedDict())  # type: ignore[no-any-return]

    def add(self, key: str, module: nn.Module, record: Any) -> None:
        """Add a graft: its block and its record."""
        set_record(module, record)
        self[key] = module
        self.records[key] = record

    def record(self, key: str) -> Any:
        """Return the record of a graft."""
        return self.records.get(key) or record_of(self[key])

    def kept(self) -> Grafts:
        """Return a new container of the same blocks without those dropped; containers are replaced, never edited."""
        new = Grafts()
        new.runs = self.runs
        for key, block in self.items():
            if key not in self.dropped:
                new.add(key, block, self.record(key))
        return new

    def __getattr__(self, name: str) -> Any:
        # Generated code gets each block as `self.attn_surgeon.<key>`, so this records its run and can skip it.
        value = super().__getattr__(name)
        runs = vars(self).get("runs")
        if runs is not None and runs.by_thread and name in self._modules and runs.record(self, name):
            return _skipped
        return value

    def forward(self, x: Any) -> Any:
        """Return the input, because `nn.Sequential(*network.children())` calls this child like any other."""
        if not torch.compiler.is_compiling() and not self._is_within_owner():
            warn_not_run([self.record(key) for key in self])
        return x

    def __prepare_scriptable__(self) -> nn.Module:
        """Raise ExportError: TorchScript compiles grafts only with the whole network they were inserted into."""
        what = "torch.jit.script cannot compile a graph module, or a part of a network, with attn_surgeon's grafts"
        raise ExportError(what, "", "script the network that they were inserted into, or use torch.jit.trace")

    def _is_within_owner(self) -> bool:
        """Return whether the forward of the owner is running, which may loop over its children, as RegNet's does."""
        frame = inspect.currentframe()
        while frame is not None:
            owner = frame.f_locals.get("self") if frame.f_code.co_filename.startswith("<attn_surgeon ") else None
            if isinstance(owner, nn.Module) and owner._modules.get(RESERVED) is self:
                return True
            frame = frame.f_back
        return False


def _skipped(x: Tensor, *others: Tensor) -> Tensor:
    return x


def warn_not_run(records: list[Any]) -> None:
    """Warn that grafts do not run because the children of their module are called one by one."""
    places = ", ".join(f"{record.side} {record.site}" for record in records)
    warnings.warn(
        f"attn_surgeon's grafts {places} are part of a forward that does not run here, because the children of its "
        "module were taken out of it; insert into the new network instead",
        stacklevel=3,
    )


def warn_left_out(module: nn.Module, records: list[Any]) -> None:
    """Warn that grafts are not in a list of the children of their module."""
    places = ", ".join(f"{record.side} {record.site}" for record in records)
    warnings.warn(
        f"attn_surgeon's grafts {places} are not in this list of children: they are part of the forward of the "
        f"{type(module).__name__}, so a network built from the list runs without them; insert into that one instead",
        stacklevel=3,
    )


def original_children(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the children of a module without its grafts."""
    hidden = () if grafts_of(module) is None else (RESERVED,)
    return {name: child for name, child in module._modules.items() if name not in hidden}


def grafts_of(module: nn.Module) -> Grafts | None:
    """Return the container of a module's own grafts; None where it has none.

    A copy of a `torch.fx.GraphModule` has the blocks in a plain `nn.Module`, which is replaced by a container here.
    """
    child = None if isinstance(module, torch.jit.ScriptModule) else module._modules.get(RESERVED)
    if isinstance(child, Grafts) or child is None:
        return child
    blocks = {key: block for key, block in child._modules.items() if block is not None and record_of(block)}
    if not blocks or len(blocks) != len(child._modules):
        return None  # a child of the user's that happens to have the reserved name
    grafts = module._modules[RESERVED] = Grafts()
    for key, block in blocks.items():
        grafts.add(key, block, record_of(block))
    return grafts
