"""Check that grafts can learn: every parameter of theirs must change within two SGD steps on the grafts alone.

One step is not enough: a gate that starts at zero gets a gradient in the first, but passes one on to the layers before
it only in the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attn_surgeon.errors import first_few, first_line
from attn_surgeon.surgery.installed_grafts import InstalledGraft, list_grafts
from attn_surgeon.surgery.isolation import copied, isolates, mode
from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.observe import observe
from attn_surgeon.surgery.observe.taint import graft_reaches_output
from attn_surgeon.surgery.running import Example, call, enlarged, hooked, map_tensors, tensors

Status = Literal["passed", "failed", "skipped"]
CheckResult = tuple[Status, str]
STEPS = 2
STEP_SIZE = 0.01  # the largest change of an element in one step: gradients are divided by their maximum


@isolates
def check_gradients(model: nn.Module, example: Example) -> CheckResult:
    """Return whether every graft parameter changes in two SGD steps on a copy of the network, with the detail."""
    model = copied(model)
    grafts = list_grafts(model)
    parameters = _parameters(grafts)
    if not parameters:
        return "skipped", "there are no graft parameters"
    changed: set[str] = set()
    batch, flow = _varied(example), _GradientFlow()
    for _ in range(STEPS):
        before = {path: parameter.detach().clone() for path, parameter in parameters.items()}
        try:
            result = _step(model, parameters, batch, flow)
        except RuntimeError as error:  # of autograd, such as an activation overwritten by a later in-place operation
            return "failed", first_line(error)
        if result is not None:
            return result
        changed |= {path for path, parameter in parameters.items() if not torch.equal(parameter, before[path])}
    return _verdict(model, example, grafts, flow, parameters.keys() - changed)


@isolates
def ignored_grafts(model: nn.Module, example: Example) -> list[InstalledGraft]:
    """Return the grafts that the output does not depend on, such as those on tokens that the head does not read."""
    model = copied(model)
    grafts = list_grafts(model)
    flow = _GradientFlow()
    gradients = _gradients(model, _parameters(grafts), _varied(example), flow)
    if isinstance(gradients, tuple):
        return []
    zero = {path for path, gradient in gradients.items() if gradient is None or not bool(gradient.any())}
    return _ignored(model, example, flow.without_gradient(grafts, zero))


def why_ignored(graft: InstalledGraft) -> str:
    """Return the reason why the output does not depend on a graft."""
    if graft.graft.feature.prefix:
        return "the layers after it read only the prefix tokens, which the graft leaves unchanged"
    return "the output does not depend on the tensor there"


def _ignored(model: nn.Module, example: Example, grafts: Sequence[InstalledGraft]) -> list[InstalledGraft]:
    """Return the grafts that the output cannot depend on: no dataflow leads to it, or only prefix tokens are read."""
    if not grafts:
        return []
    observation = observe(model, example)
    flow = Dataflow(observation)
    values = {item.path: flow.number(observation.grafted.get(id(item.block))) for item in grafts}
    return [
        item
        for item in grafts
        if values[item.path] not in flow.reaching_output
        or (item.graft.feature.prefix and not graft_reaches_output(observation, item.block, item.graft.feature.prefix))
    ]


def _step(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], example: Example, flow: _GradientFlow
) -> CheckResult | None:
    """Take one SGD step; return the result of the check where there is no finite gradient to follow."""
    gradients = _gradients(model, parameters, example, flow)
    if isinstance(gradients, tuple):
        return gradients
    for path, gradient in gradients.items():
        if gradient is None:
            continue
        if not bool(gradient.isfinite().all()):
            return "failed", "a gradient is not finite"
        largest = gradient.abs().max()
        if largest > 0:
            parameters[path].data -= STEP_SIZE * gradient / largest
    return None


@dataclass
class _GradientFlow:
    """The paths of the grafts whose input was not all zeros, and of those whose output got a nonzero gradient."""

    with_input: set[str] = field(default_factory=set)
    with_gradient: set[str] = field(default_factory=set)

    def without_gradient(self, grafts: Iterable[InstalledGraft], unchanged: set[str]) -> list[InstalledGraft]:
        """Return the grafts with a nonzero input, no gradient at their output and only unchanged parameters."""
        paths = self.with_input - self.with_gradient
        return [item for item in grafts if item.path in paths and _all_in(_parameters([item]).keys(), unchanged)]

    def watch(self, graft: InstalledGraft) -> RemovableHandle:
        """Register a hook that records the input of a graft and the gradient at its output."""

        def record(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if bool(args[0].any()):
                self.with_input.add(graft.path)
            if output.requires_grad:
                output.register_hook(lambda gradient: self._record(graft, gradient))  # type: ignore[no-untyped-call]

        return graft.block.register_forward_hook(record)

    def _record(self, graft: InstalledGraft, gradient: Tensor) -> None:
        prefix = graft.graft.feature.prefix  # the graft leaves these tokens unchanged
        if bool((gradient[:, prefix:] if prefix else gradient).any()):
            self.with_gradient.add(graft.path)


def _all_in(names: Iterable[str], others: set[str]) -> bool:
    listed = set(names)
    return bool(listed) and listed <= others


def _gradients(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], example: Example, flow: _GradientFlow
) -> dict[str, Tensor | None] | CheckResult:
    """Compute the gradients of a fixed random projection of the output, or return why there are none."""
    model.requires_grad_(False)
    inputs = map_tensors(example, lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
    sources = [tensor for tensor in tensors(inputs) if tensor.requires_grad]
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    with mode(model, training=False), torch.enable_grad(), hooked(flow.watch(item) for item in list_grafts(model)):
        outputs = [out for out in tensors(call(model, inputs)) if out.requires_grad]
        if not outputs:
            return "failed", "the output does not depend on the grafts"
        if not any(out.numel() for out in outputs):
            return "skipped", "the output is empty on this example, so it has no gradient: no objects detected?"
        gradients = torch.autograd.grad(_projection(outputs), [*parameters.values(), *sources], allow_unused=True)
    of_inputs = gradients[len(parameters) :]
    if sources and not any(gradient is not None and bool(gradient.any()) for gradient in of_inputs):
        return "skipped", "the network passes no gradient at all: its output does not depend on its input"
    return dict(zip(parameters, gradients, strict=False))


def _projection(outputs: list[Tensor]) -> Tensor:
    # The sum of the output has no gradient before a softmax or a norm, whose outputs add up to a constant.
    generator = torch.Generator().manual_seed(0)
    losses = [(out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outputs]
    return torch.stack(losses).sum()


def _verdict(
    model: nn.Module, example: Example, grafts: Sequence[InstalledGraft], flow: _GradientFlow, unchanged: set[str]
) -> CheckResult:
    """Return the result of the check from the parameters that did not change.

    Parameters that cannot learn fail it. Grafts whose input is all zeros on this example, or whose output has no effect
    on the output for this example, are only reported.
    """
    unread = flow.without_gradient(grafts, unchanged)
    ignored = _ignored(model, example, unread)
    if ignored:
        return "failed", f"{first_few(_places(ignored))}: {why_ignored(ignored[0])}"
    empty = [item for item in grafts if item.path not in flow.with_input]
    tried = [item for item in grafts if item not in empty and item not in unread]
    stuck = unchanged & _parameters(tried).keys()
    if stuck:
        return "failed", f"no gradient reaches {first_few(sorted(stuck))}"
    untried = [f"the input is all zeros {first_few(_places(empty))}"] if empty else []
    untried += [f"on this example the output does not depend on {first_few(_places(unread))}"] if unread else []
    count = len(_parameters(tried))
    if not count:
        why = " (an untrained norm that starts at zero?)" if empty else ""
        return "skipped", f"nothing to learn from yet: {'; '.join(untried)}{why}"
    changing = f"{count} new tensor{'s, each moves' if count != 1 else ' moves'} within two steps"
    return "passed", "; not tried: ".join([changing, *([" and ".join(untried)] if untried else [])])


def _places(grafts: Iterable[InstalledGraft]) -> list[str]:
    return [item.place for item in grafts]


def _parameters(grafts: Iterable[InstalledGraft]) -> dict[str, nn.Parameter]:
    return {f"{item.path}.{name}": parameter for item in grafts for name, parameter in item.block.named_parameters()}


def _varied(example: Example) -> Example:
    """Build a batch of varied inputs, so that no ReLU unit is inactive on all of them by chance."""
    return enlarged(example, lambda x: -x, lambda x: x.flip(-1) / 4, lambda x: 2 * x.roll(1, -1))
