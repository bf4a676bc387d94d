"""Stop a run in good order: at a signal after the step it is in, and at numbers that are none before they spread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.surgery.installed import list_grafts
from attn_surgeon.surgery.running import hooked, tensors


@dataclass
class Wish:
    """Say whether the run was asked to stop."""

    stop: bool = False


@contextmanager
def signals() -> Iterator[Wish]:
    """Note SIGINT and SIGTERM for a while instead of following them at once."""
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return

    def note(signum: int, frame: object) -> None:
        wish.stop = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def first_bad(model: nn.Module, images: Tensor) -> str:
    """Run a batch again and say which graft, or else which module, first gave an output that is not finite."""
    grafts = {made.block: f"the graft {made.graft.side} {made.graft.site}" for made in list_grafts(model)}
    bad: list[str] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        if any(tensor.is_floating_point() and not bool(tensor.isfinite().all()) for tensor in tensors(output)):
            bad.append(grafts.get(module) or f"no graft but {name or 'the network'}")

    inside = {id(part) for block in grafts for part in block.modules()} - {id(block) for block in grafts}
    handles = (
        module.register_forward_hook(lambda own, args, output, name=name: look(name, own, output))
        for name, module in model.named_modules()
        if id(module) not in inside
    )
    with hooked(handles), torch.no_grad():
        model(images)
    return bad[0] if bad else "no module's output"
