"""The checks of one operated network against what its original gave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.errors import first_line
from attn_surgeon.surgery.installed_grafts import InstalledGraft, list_grafts
from attn_surgeon.surgery.isolation import mode, seeded
from attn_surgeon.surgery.running import call, run_network, same_bits, tensors

from .cases import SEED, Case, copied_buffers, restored_buffers

Verdict = bool | str | None


def same_in_eval(case: Case) -> Verdict:
    """Compare outputs in eval mode; without values, their shapes."""
    output = run_network(case.model, case.example)
    if case.meta:
        return "meta" if _shapes(output) == _shapes(case.reference.evaluated) else "shapes differ"
    return same_bits(output, case.reference.evaluated)


def same_in_train(case: Case) -> Verdict:
    """Compare outputs in train mode with the same random draws, and buffers afterwards."""
    if case.meta:
        return "meta"
    with restored_buffers(case.model):
        output = run_network(case.model, case.train_example, training=True, seed=SEED)
        buffers = copied_buffers(case.model)
    if not same_bits(output, case.reference.trained):
        return "outputs differ"
    changed = [name for name, value in case.reference.buffers.items() if not same_bits(value, buffers.get(name))]
    return f"statistics differ: {', '.join(changed[:3])}" if changed else True


def same_and_alive(case: Case) -> tuple[Verdict, Verdict]:
    """Compare outputs in eval mode, and say whether a fixed projection of the output has a gradient in every graft."""
    if case.meta:
        return same_in_eval(case), "meta"
    grafts = list_grafts(case.model)
    parameters = [parameter for made in grafts for parameter in made.block.parameters()]
    reached: set[str] = set()
    try:
        with _learning(case.model, parameters), restored_buffers(case.model), _watching(grafts, reached):
            output, found = _gradients(case, parameters)
    except RuntimeError as error:  # autograd's own, such as a value that an in-place operation overwrote
        return same_in_eval(case), first_line(error)
    same = not case.loss and same_bits(output, case.reference.evaluated)
    asked = [made for made in grafts if made.path in reached or not case.loss or not reached]
    return same or same_in_eval(case), _alive(asked, dict(zip(parameters, found, strict=True)))


@contextmanager
def _watching(grafts: list[InstalledGraft], reached: set[str]) -> Iterator[None]:
    """Note to which grafts a gradient comes back: a detector's loss samples boxes, and may leave a level out."""

    def note(made: InstalledGraft, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: reached.add(made.path) if bool(gradient.any()) else None)  # type: ignore[no-untyped-call]

    handles = [made.block.register_forward_hook(lambda _, __, out, made=made: note(made, out)) for made in grafts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _alive(grafts: list[InstalledGraft], gradients: dict[nn.Parameter, Tensor | None]) -> Verdict:
    dead = [made for made in grafts if not _moves(made, gradients)]
    places = ", ".join(f"{made.graft.side} {made.graft.site}" for made in dead[:3])
    return f"{len(dead)} of {len(grafts)} have none: {places}" if dead else True


def _gradients(case: Case, parameters: list[nn.Parameter]) -> tuple[Any, tuple[Tensor | None, ...]]:
    example = case.train_example if case.loss else case.example
    with mode(case.model, training=case.loss), seeded(SEED), torch.enable_grad():
        output = call(case.model, example)
        outputs = [out for out in tensors(output) if out.requires_grad]
        if not outputs:
            raise RuntimeError("the output does not depend on the grafts")
        generator = torch.Generator().manual_seed(0)
        losses = [(out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outputs]
        return output, torch.autograd.grad(torch.stack(losses).sum(), parameters, allow_unused=True)


@contextmanager
def _learning(model: nn.Module, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Let only these parameters learn, for a while."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _moves(made: InstalledGraft, gradients: dict[nn.Parameter, Tensor | None]) -> bool:
    """Say whether any parameter of a graft has a gradient, and all are finite; a block without any is fine."""
    own = list(made.block.parameters())
    found = [gradient for parameter in own if (gradient := gradients[parameter]) is not None]
    return not own or (any(bool(grad.any()) for grad in found) and all(bool(grad.isfinite().all()) for grad in found))


def _shapes(output: Any) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors(output)]
