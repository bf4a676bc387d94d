"""List the grafts installed in a network, require that they are still in it, and record which of them run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.plan import Graft
from attn_surgeon.surgery.rewrite.expected_grafts import expected_of, require_expected
from attn_surgeon.surgery.rewrite.grafts import RESERVED, grafts_of
from attn_surgeon.surgery.rewrite.graph_module import calls
from attn_surgeon.surgery.rewrite.operated_modules import runs_key


@dataclass(frozen=True)
class InstalledGraft:
    """A graft in a network: the path of the module that owns it, its key there, and its block."""

    owner: str
    key: str
    graft: Graft
    block: nn.Module

    @property
    def path(self) -> str:
        """The dotted path of the graft's block in the network."""
        return f"{self.owner}.{RESERVED}.{self.key}".removeprefix(".")

    @property
    def place(self) -> str:
        """Where the graft is, such as `after layer3`."""
        return self.graft.place


def list_grafts(model: nn.Module) -> list[InstalledGraft]:
    """Return the grafts in a network, those included that do not run any more.

    Args:
        model: a network, with or without grafts.

    Returns:
        The grafts in the order of the network's modules, each with its `place`, such as `"after layer3"`, its `block`,
        which is the module that runs there, and the `path` of that module.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> x = torch.zeros(1, 1, 32, 32)
        >>> operated = attn_surgeon.insert(load_demo(), "se", after=["layer2", "layer3"], example=x)
        >>> for graft in attn_surgeon.list_grafts(operated):
        ...     print(graft.place, sum(parameter.numel() for parameter in graft.block.parameters()))
        after layer2 162
        after layer3 580
    """
    return [
        InstalledGraft(path, key, container.record(key), container[key])
        for path, module in model.named_modules()
        if (container := grafts_of(module)) is not None
        for key in container
    ]


def require_grafts(model: nn.Module) -> None:
    """Reinstall grafts on leaf modules that were replaced; raise LostGraftError where other code has lost a graft."""
    for module in list(model.modules()):
        if expected_of(module) is not None:
            require_expected(module)
    lost = [graft for graft in list_grafts(model) if not _runs(model, graft)]
    if lost:
        raise LostGraftError(
            f"the grafts {', '.join(graft.place for graft in lost)} do not run: their module was replaced or rebuilt",
            lost[0].owner,
            "change or fuse the network before inserting; to go on without them, call attn_surgeon.remove",
        )


def _runs(model: nn.Module, graft: InstalledGraft) -> bool:
    """Return whether a graft is in its owner's forward, or in the graph of a GraphModule around its owner."""
    if runs_key(model.get_submodule(graft.owner), graft.key):
        return True
    return any(calls(graph, target) for graph, target in graph_modules_with(model, graft))


def graph_modules_with(model: nn.Module, graft: InstalledGraft) -> Iterator[tuple[fx.GraphModule, str]]:
    """Yield every GraphModule that contains a graft, at any depth, with the path of the block in it."""
    names = graft.path.split(".")
    for depth in range(len(names) - 1):
        module = model.get_submodule(".".join(names[:depth]))
        if isinstance(module, fx.GraphModule):
            yield module, ".".join(names[depth:])


@contextmanager
def bypassed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Make blocks return their input, without computing anything, until the context ends."""
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_replaced_forward(block, lambda x, *_, **__: x))
        yield


def graft_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all grafts in a network, for an optimizer's parameter group.

    Args:
        model: a network with grafts.

    Returns:
        The parameters in the order of `list_grafts`; a shared parameter is listed once.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> network = attn_surgeon.insert(load_demo(), "se", after="layer3", example=torch.zeros(1, 1, 32, 32))
        >>> grafts = attn_surgeon.graft_parameters(network)
        >>> base = [p for p in network.parameters() if not any(p is other for other in grafts)]
        >>> optimizer = torch.optim.AdamW([{"params": base, "lr": 1e-4}, {"params": grafts, "lr": 1e-3}])
        >>> len(grafts), len(base)
        (4, 47)
    """
    parameters = (parameter for graft in list_grafts(model) for parameter in graft.block.parameters())
    return list({id(parameter): parameter for parameter in parameters}.values())


@contextmanager
def _replaced_forward(block: nn.Module, function: Callable[..., Any]) -> Iterator[None]:
    """Replace the forward of one module until the context ends."""
    assigned = vars(block).get("forward")
    vars(block)["forward"] = function
    try:
        yield
    finally:
        del vars(block)["forward"]
        if assigned is not None:
            vars(block)["forward"] = assigned


@contextmanager
def ran(model: nn.Module) -> Iterator[set[str]]:
    """Record which grafts run until the context ends; yield the set of the paths of those that have not run yet.

    Forwards are replaced instead of hooked, because hooks would disable the fused kernels of `torch.nn`.
    """
    grafts = list_grafts(model)
    not_run = {graft.path for graft in grafts}
    with ExitStack() as stack:
        for graft in grafts:
            stack.enter_context(_replaced_forward(graft.block, _recording(graft, not_run)))
        yield not_run


def _recording(graft: InstalledGraft, not_run: set[str]) -> Callable[..., Any]:
    forward = graft.block.forward

    def record(*args: Any, **kwargs: Any) -> Any:
        not_run.discard(graft.path)
        return forward(*args, **kwargs)

    return record
