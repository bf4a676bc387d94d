"""The evidence that grafts can learn: two SGD steps on them alone, after which every parameter has moved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor, nn

from attn_surgeon.graph.running import Example, call, map_tensors, mode, tensors
from attn_surgeon.graph.surgery import Made, list_grafts

Status = Literal["passed", "failed", "skipped"]
Finding = tuple[Status, str]


def learn(model: nn.Module, example: Example) -> Finding:
    """Take two SGD steps on a copy and tell which graft parameters have no gradient, and why."""
    model = copy.deepcopy(model)
    parameters = _parameters(list_grafts(model))
    if not parameters:
        return "skipped", "there are no graft parameters"
    moved: set[str] = set()
    batch = map_tensors(example, _varied)
    fed: set[str] = set()
    for _ in range(2):
        before = {path: parameter.detach().clone() for path, parameter in parameters.items()}
        try:
            finding = _step(model, parameters, batch, fed)
        except RuntimeError as error:  # autograd's own, such as a value that a later in-place operation overwrote
            return "failed", str(error).strip().partition("\n")[0]
        if finding is not None:
            return finding
        moved |= {path for path, parameter in parameters.items() if not torch.equal(parameter, before[path])}
    return _verdict(list_grafts(model), set(parameters) - moved, fed)


def _step(model: nn.Module, parameters: Mapping[str, nn.Parameter], example: Example, fed: set[str]) -> Finding | None:
    """Take one step of length 0.01 per tensor down a fixed random projection of the output.

    `fed` gathers the paths of the grafts that are given anything but zeros.
    """
    model.requires_grad_(False)
    inputs = map_tensors(example, lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
    sources = [tensor for tensor in tensors(inputs) if tensor.requires_grad]
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    with mode(model, training=False), torch.enable_grad(), ExitStack() as hooks:
        for made in list_grafts(model):
            hooks.enter_context(made.block.register_forward_pre_hook(_noting(made.path, fed)))
        outputs = [out for out in tensors(call(model, inputs)) if out.requires_grad]
        if not outputs:
            return "failed", "the output does not depend on the grafts"
        gradients = torch.autograd.grad(_projection(outputs), [*parameters.values(), *sources], allow_unused=True)
    if sources and not any(gradient is not None and bool(gradient.any()) for gradient in gradients[len(parameters) :]):
        return "skipped", "the network passes no gradient at all: its output does not depend on its input"
    return _descend(parameters.values(), gradients)


def _noting(path: str, fed: set[str]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if bool(args[0].any()):
            fed.add(path)

    return note


def _descend(parameters: Iterable[nn.Parameter], gradients: Sequence[Tensor | None]) -> Finding | None:
    for parameter, gradient in zip(parameters, gradients, strict=False):
        if gradient is None:
            continue
        if not bool(gradient.isfinite().all()):
            return "failed", "a gradient is not finite"
        largest = gradient.abs().max()
        if largest > 0:
            parameter.data -= 0.01 * gradient / largest
    return None


def _projection(outputs: list[Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    losses = [(out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outputs]
    return torch.stack(losses).sum()


def _verdict(grafts: Sequence[Made], still: set[str], fed: set[str]) -> Finding:
    """Tell parameters that cannot learn from places that are zero and places that the output ignores."""
    empty = [made for made in grafts if made.path not in fed]
    stuck = {made.path: set(_parameters([made])) & still for made in grafts if made not in empty}
    ignored = [made for made in grafts if made.path in stuck and stuck[made.path] == set(_parameters([made]))]
    if any(stuck[made.path] for made in ignored):
        places = some([f"{made.graft.side} {made.graft.site}" for made in ignored if stuck[made.path]])
        return "failed", f"the output does not depend on what flows {places}"
    if any(stuck.values()):
        return "failed", f"no gradient reaches {some(sorted(set().union(*stuck.values())))}"
    learning = len(_parameters([made for made in grafts if made not in empty]))
    if not empty:
        return "passed", f"{learning} new tensors, each moves within two steps"
    zero = f"all zeros flow {some([f'{made.graft.side} {made.graft.site}' for made in empty])}"
    if not learning:
        return "skipped", f"nothing to learn from yet: {zero} (an untrained norm that starts at zero?)"
    return "passed", f"{learning} new tensors, each moves within two steps; not tried: {zero}"


def _parameters(grafts: Iterable[Made]) -> dict[str, nn.Parameter]:
    return {f"{made.path}.{name}": parameter for made in grafts for name, parameter in made.block.named_parameters()}


def _varied(tensor: Tensor) -> Tensor:
    """Make a batch of unlike inputs, so that no unit is off on all of them by chance."""
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor
    return torch.cat((tensor, -tensor, tensor.flip(-1) / 4, 2 * tensor.roll(1, -1)))


def some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
