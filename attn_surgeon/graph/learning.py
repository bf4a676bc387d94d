"""The evidence that grafts can learn: two SGD steps on them alone, after which every parameter has moved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor, nn

from attn_surgeon.errors import first_line
from attn_surgeon.graph.running import Example, call, enlarged, map_tensors, mode, tensors
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
    batch = _varied(example)
    fed: set[str] = set()
    for _ in range(2):
        before = {path: parameter.detach().clone() for path, parameter in parameters.items()}
        try:
            finding = _step(model, parameters, batch, fed)
        except RuntimeError as error:  # autograd's own, such as a value that a later in-place operation overwrote
            return "failed", first_line(error)
        if finding is not None:
            return finding
        moved |= {path for path, parameter in parameters.items() if not torch.equal(parameter, before[path])}
    return _verdict(list_grafts(model), set(parameters) - moved, fed)


def ignored_grafts(model: nn.Module, example: Example) -> list[Made]:
    """List the grafts that the output does not depend on, such as those on tokens that no head reads."""
    model = copy.deepcopy(model)
    made = list_grafts(model)
    parameters, fed = _parameters(made), set[str]()
    gradients = _gradients(model, parameters, _varied(example), fed)
    if isinstance(gradients, tuple):
        return []
    still = {path for path, gradient in gradients.items() if gradient is None or not bool(gradient.any())}
    return [item for item in made if item.path in fed and _all_still(item, still)]


def why_ignored(made: Made) -> str:
    """Say why the output does not depend on a graft."""
    if made.graft.feature.prefix:
        return "what follows reads only the prefix tokens, which the graft leaves alone"
    return "the output does not depend on what flows there"


def _all_still(made: Made, still: set[str]) -> bool:
    own = set(_parameters([made]))
    return bool(own) and own <= still


def _step(model: nn.Module, parameters: Mapping[str, nn.Parameter], example: Example, fed: set[str]) -> Finding | None:
    """Take one step of length 0.01 per tensor; give a finding where there is nothing to go down."""
    gradients = _gradients(model, parameters, example, fed)
    if isinstance(gradients, tuple):
        return gradients
    for path, gradient in gradients.items():
        if gradient is None:
            continue
        if not bool(gradient.isfinite().all()):
            return "failed", "a gradient is not finite"
        largest = gradient.abs().max()
        if largest > 0:
            parameters[path].data -= 0.01 * gradient / largest
    return None


def _gradients(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], example: Example, fed: set[str]
) -> dict[str, Tensor | None] | Finding:
    """Find the gradients of a fixed random projection of the output.

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
        found = torch.autograd.grad(_projection(outputs), [*parameters.values(), *sources], allow_unused=True)
    if sources and not any(gradient is not None and bool(gradient.any()) for gradient in found[len(parameters) :]):
        return "skipped", "the network passes no gradient at all: its output does not depend on its input"
    return dict(zip(parameters, found, strict=False))


def _noting(path: str, fed: set[str]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if bool(args[0].any()):
            fed.add(path)

    return note


def _projection(outputs: list[Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    losses = [(out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outputs]
    return torch.stack(losses).sum()


def _verdict(grafts: Sequence[Made], still: set[str], fed: set[str]) -> Finding:
    """Tell parameters that cannot learn from places that are zero and places that the output ignores."""
    empty = [made for made in grafts if made.path not in fed]
    ignored = [made for made in grafts if made not in empty and _all_still(made, still)]
    if ignored:
        places = some([f"{made.graft.side} {made.graft.site}" for made in ignored])
        return "failed", f"{places}: {why_ignored(ignored[0])}"
    stuck = still & set(_parameters([made for made in grafts if made not in empty]))
    if stuck:
        return "failed", f"no gradient reaches {some(sorted(stuck))}"
    learning = len(_parameters([made for made in grafts if made not in empty]))
    moving = f"{learning} new tensor{'s, each moves' if learning != 1 else ' moves'} within two steps"
    if not empty:
        return "passed", moving
    zero = f"all zeros flow {some([f'{made.graft.side} {made.graft.site}' for made in empty])}"
    if not learning:
        return "skipped", f"nothing to learn from yet: {zero} (an untrained norm that starts at zero?)"
    return "passed", f"{moving}; not tried: {zero}"


def _parameters(grafts: Iterable[Made]) -> dict[str, nn.Parameter]:
    return {f"{made.path}.{name}": parameter for made in grafts for name, parameter in made.block.named_parameters()}


def _varied(example: Example) -> Example:
    """Make a batch of unlike inputs, so that no unit is off on all of them by chance."""
    return enlarged(example, lambda x: -x, lambda x: x.flip(-1) / 4, lambda x: 2 * x.roll(1, -1))


def some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
