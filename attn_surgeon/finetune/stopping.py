"""Stop a run after the current step on a signal, and find the module that first returns values that are not finite."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import hooked, tensors


@dataclass
class StopRequest:
    """A flag that is set when the run should stop."""

    requested: bool = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yield a request that SIGINT, SIGTERM and SIGHUP set instead of ending the process."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(signum: int, frame: object) -> None:
        stop.requested = True

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    caught = [number for number in known if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, note) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def first_not_finite(model: nn.Module, run: Callable[[], object]) -> str:
    """Run a batch by a function, and return which graft, or else module, first has an output that is not finite."""
    grafts = {made.block: f"the graft {made.graft.side} {made.graft.site}" for made in list_grafts(model)}
    culprits: list[str] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        if any(tensor.is_floating_point() and not bool(tensor.isfinite().all()) for tensor in tensors(output)):
            culprits.append(grafts.get(module) or f"no graft but {name or 'the network'}")

    inside = {id(part) for block in grafts for part in block.modules()} - {id(block) for block in grafts}
    handles = (
        module.register_forward_hook(lambda own, args, output, name=name: look(name, own, output))
        for name, module in model.named_modules()
        if id(module) not in inside
    )
    with hooked(handles), torch.no_grad():
        run()
    return culprits[0] if culprits else "no module's output"
