"""The grafts of one module: a child under a reserved name, and what is known of each block in it."""

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
# fx takes modules of torch.nn for leaves, and asks the object, not its class: so a block is one node in every trace.
_LEAF = "torch.nn.attn_surgeon"


def set_record(block: nn.Module, record: Any) -> None:
    """Record on a block which graft it is; copies, pickles and modules that are rebuilt around it keep the record."""
    vars(block)[_RECORD] = record
    vars(block)["__module__"] = _LEAF


def record_of(block: nn.Module) -> Any | None:
    """Return which graft a block is, also where another library has wrapped it; None for other modules."""
    return next((vars(part)[_RECORD] for part in block.modules() if _RECORD in vars(part)), None)


@dataclass
class Run:
    """One call of a forward that was assigned to a module: the grafts that ran in it, by their container and key.

    `made`, of the module's own container `owner`, ran before the call and are not to run again within it.
    """

    owner: int
    made: frozenset[str] = frozenset()
    taken: set[tuple[int, str]] = field(default_factory=set)

    def ran(self, grafts: Grafts, *, copies: bool) -> set[str]:
        """Return the keys of the grafts that ran, those of copies of the module too where they count."""
        return {key for owner, key in self.taken if copies or owner == id(grafts)}


class Runs:
    """The calls under way of assigned forwards, by thread; copies of a module share them.

    A copy's forward may be a closure over the module it was copied from, whose grafts then run in the copy's call.
    """

    def __init__(self) -> None:
        self.by_thread: dict[int, list[Run]] = {}

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()

    @property
    def here(self) -> list[Run]:
        """Return the calls under way in this thread, the outermost first."""
        return self.by_thread.get(threading.get_ident(), [])

    @contextmanager
    def watched(self, grafts: Grafts, made: frozenset[str] = frozenset()) -> Iterator[Run]:
        """Watch which grafts run in this thread for a while."""
        run, thread = Run(id(grafts), made), threading.get_ident()
        runs = self.by_thread.setdefault(thread, [])
        runs.append(run)
        try:
            yield run
        finally:
            runs.pop()
            if not runs:
                del self.by_thread[thread]

    def take(self, grafts: Grafts, key: str) -> bool:
        """Record that a graft runs, and return whether it already did in this call."""
        for run in self.here:
            run.taken.add((id(grafts), key))
        return any(run.owner == id(grafts) and key in run.made for run in self.here)


class Forgotten(dict[int, Any]):
    """What is known of one object alone: copies and files of it have nothing of that."""

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


class Grafts(nn.ModuleDict):
    """The grafts of one module, by key, in the order they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, Any] = {}
        self.runs = Runs()
        self.dropped: set[str] = set()

    @property
    def judged(self) -> Forgotten:
        """Return what was found out of the methods that were assigned to the module, by their identity."""
        return vars(self).setdefault("_judged", Forgotten())  # type: ignore[no-any-return]

    def add(self, key: str, module: nn.Module, record: Any) -> None:
        """Keep a graft's module and what is known of it."""
        set_record(module, record)
        self[key] = module
        self.records[key] = record

    def record(self, key: str) -> Any:
        """Return what is known of a graft."""
        return self.records.get(key) or record_of(self[key])

    def kept(self) -> Grafts:
        """Return a container of the same blocks, without those dropped, to be changed in place of this one."""
        new = Grafts()
        new.runs = self.runs
        for key, block in self.items():
            if key not in self.dropped:
                new.add(key, block, self.record(key))
        return new

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        runs = vars(self).get("runs")
        if runs is not None and runs.by_thread and name in self._modules and runs.take(self, name):
            return _passed
        return value

    def forward(self, x: Any) -> Any:
        """Return the input: `nn.Sequential(*network.children())` calls this child like any other."""
        if not torch.compiler.is_compiling() and not self._is_within_owner():
            warn_apart([self.record(key) for key in self])
        return x

    def __prepare_scriptable__(self) -> nn.Module:
        """Raise ExportError: TorchScript compiles grafts with the network that they were inserted into."""
        what = "torch.jit.script compiles no graph module, and no part of a network, with attn_surgeon's grafts"
        raise ExportError(what, "", "script the network that they were inserted into, or use torch.jit.trace")

    def _is_within_owner(self) -> bool:
        """Return whether the owner's own forward runs, which may go over its children, as that of RegNet's stages."""
        frame = inspect.currentframe()
        while frame is not None:
            owner = frame.f_locals.get("self") if frame.f_code.co_filename.startswith("<attn_surgeon ") else None
            if isinstance(owner, nn.Module) and owner._modules.get(RESERVED) is self:
                return True
            frame = frame.f_back
        return False


def _passed(x: Tensor, *others: Tensor) -> Tensor:
    return x


def warn_apart(records: list[Any]) -> None:
    """Warn of the grafts that do not run where the children of their module are called one by one."""
    places = ", ".join(f"{record.side} {record.site}" for record in records)
    warnings.warn(
        f"attn_surgeon's grafts {places} are part of a forward that does not run here: the children of its module were "
        "taken apart; insert into the new network instead",
        stacklevel=3,
    )


def warn_left_out(module: nn.Module, records: list[Any]) -> None:
    """Warn of the grafts that a list of a module's children does not have."""
    places = ", ".join(f"{record.side} {record.site}" for record in records)
    warnings.warn(
        f"attn_surgeon's grafts {places} are not in this list of children: they are part of the forward of their "
        f"{type(module).__name__}, so what is made of the children runs without them; insert into that instead",
        stacklevel=3,
    )


def own_children(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the children of a module without its grafts."""
    hidden = () if grafts_of(module) is None else (RESERVED,)
    return {name: child for name, child in module._modules.items() if name not in hidden}


def grafts_of(module: nn.Module) -> Grafts | None:
    """Return the grafts a module carries itself, if any.

    A copy of a `torch.fx.GraphModule` has them in a plain module; that becomes a container again.
    """
    child = None if isinstance(module, torch.jit.ScriptModule) else module._modules.get(RESERVED)
    if isinstance(child, Grafts) or child is None:
        return child
    blocks = {key: block for key, block in child._modules.items() if block is not None and record_of(block)}
    if not blocks or len(blocks) != len(child._modules):
        return None  # the user's own
    made = module._modules[RESERVED] = Grafts()
    for key, block in blocks.items():
        made.add(key, block, record_of(block))
    return made
