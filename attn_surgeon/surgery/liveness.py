"""The evidence that grafts can learn: two SGD steps on them alone, after which every parameter has moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attn_surgeon.errors import first_line
from attn_surgeon.surgery.installed import Made, list_grafts
from attn_surgeon.surgery.isolation import copied, isolates, mode
from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.observe import observe
from attn_surgeon.surgery.running import Example, call, enlarged, has_nan, hooked, map_tensors, run, tensors

Status = Literal["passed", "failed", "skipped"]
Finding = tuple[Status, str]


@isolates
def learn(model: nn.Module, example: Example) -> Finding:
    """Take two SGD steps on a copy and tell which graft parameters have no gradient, and why."""
    model = copied(model)
    parameters = _parameters(list_grafts(model))
    if not parameters:
        return "skipped", "there are no graft parameters"
    moved: set[str] = set()
    batch, seen = _varied(example), _Seen()
    for _ in range(2):
        before = {path: parameter.detach().clone() for path, parameter in parameters.items()}
        try:
            finding = _step(model, parameters, batch, seen)
        except RuntimeError as error:  # autograd's own, such as a value that a later in-place operation overwrote
            return "failed", first_line(error)
        if finding is not None:
            return finding
        moved |= {path for path, parameter in parameters.items() if not torch.equal(parameter, before[path])}
    made = list_grafts(model)
    still = set(parameters) - moved
    apart = [item for item in made if seen.passes_by(item) and _all_still(item, still)]
    return _verdict(made, still, seen.fed, apart, _unread(model, example, apart) if apart else [])


@isolates
def ignored_grafts(model: nn.Module, example: Example) -> list[Made]:
    """List the grafts that the output does not depend on, such as those on tokens that no head reads."""
    model = copied(model)
    made = list_grafts(model)
    parameters, seen = _parameters(made), _Seen()
    gradients = _gradients(model, parameters, _varied(example), seen)
    if isinstance(gradients, tuple):
        return []
    still = {path for path, gradient in gradients.items() if gradient is None or not bool(gradient.any())}
    apart = [item for item in made if seen.passes_by(item) and _all_still(item, still)]
    return _unread(model, example, apart) if apart else []


def _unread(model: nn.Module, example: Example, made: Sequence[Made]) -> list[Made]:
    """List the grafts that the output cannot depend on: no path leads there, or only their prefix tokens are read."""
    seen = observe(model, example)
    flow = Dataflow(seen)
    values = {item.path: flow.number(seen.grafted.get(id(item.block))) for item in made}
    return [
        item
        for item in made
        if values[item.path] not in flow.reaching or (item.graft.feature.prefix and not _spreads(model, example, item))
    ]


def _spreads(model: nn.Module, example: Example, made: Made) -> bool:
    """Make what comes out of a graft NaN but for its prefix tokens, and say whether the network's output has NaN."""
    prefix = made.graft.feature.prefix

    def poison(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        poisoned = output.clone()
        poisoned[:, prefix:] = torch.nan
        return poisoned

    with hooked([made.block.register_forward_hook(poison)]):
        return has_nan(run(model, example))


def why_ignored(made: Made) -> str:
    """Say why the output does not depend on a graft."""
    if made.graft.feature.prefix:
        return "what follows reads only the prefix tokens, which the graft leaves alone"
    return "the output does not depend on what flows there"


def _all_still(made: Made, still: set[str]) -> bool:
    own = set(_parameters([made]))
    return bool(own) and own <= still


def _step(model: nn.Module, parameters: Mapping[str, nn.Parameter], example: Example, seen: _Seen) -> Finding | None:
    """Take one step of length 0.01 per tensor; give a finding where there is nothing to go down."""
    gradients = _gradients(model, parameters, example, seen)
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


@dataclass
class _Seen:
    """Which grafts, by path, were given anything but zeros, and to whose outputs a gradient came back."""

    fed: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)

    def passes_by(self, made: Made) -> bool:
        """Say whether a graft was given something, but nothing depended on what it made."""
        return made.path in self.fed and made.path not in self.reached

    def hook(self, made: Made) -> RemovableHandle:
        """Watch a graft for one forward and backward pass."""

        def note(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if bool(args[0].any()):
                self.fed.add(made.path)
            if output.requires_grad:
                output.register_hook(lambda gradient: self._reach(made, gradient))  # type: ignore[no-untyped-call]

        return made.block.register_forward_hook(note)

    def _reach(self, made: Made, gradient: Tensor) -> None:
        prefix = made.graft.feature.prefix  # the graft leaves these tokens alone
        if bool((gradient[:, prefix:] if prefix else gradient).any()):
            self.reached.add(made.path)


def _gradients(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], example: Example, seen: _Seen
) -> dict[str, Tensor | None] | Finding:
    """Find the gradients of a fixed random projection of the output."""
    model.requires_grad_(False)
    inputs = map_tensors(example, lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
    sources = [tensor for tensor in tensors(inputs) if tensor.requires_grad]
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    with mode(model, training=False), torch.enable_grad(), hooked(seen.hook(made) for made in list_grafts(model)):
        outputs = [out for out in tensors(call(model, inputs)) if out.requires_grad]
        if not outputs:
            return "failed", "the output does not depend on the grafts"
        found = torch.autograd.grad(_projection(outputs), [*parameters.values(), *sources], allow_unused=True)
    if sources and not any(gradient is not None and bool(gradient.any()) for gradient in found[len(parameters) :]):
        return "skipped", "the network passes no gradient at all: its output does not depend on its input"
    return dict(zip(parameters, found, strict=False))


def _projection(outputs: list[Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    losses = [(out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outputs]
    return torch.stack(losses).sum()


def _verdict(
    grafts: Sequence[Made], still: set[str], fed: set[str], apart: Sequence[Made], dead: Sequence[Made]
) -> Finding:
    """Tell parameters that cannot learn from places that are zero, or that this example's output passes by.

    `apart` are fed grafts in which nothing moved, `dead` those among them that no output could depend on.
    """
    if dead:
        return "failed", f"{some(_places(dead))}: {why_ignored(dead[0])}"
    empty = [made for made in grafts if made.path not in fed]
    tried = [made for made in grafts if made not in empty and made not in apart]
    stuck = still & set(_parameters(tried))
    if stuck:
        return "failed", f"no gradient reaches {some(sorted(stuck))}"
    learning = len(_parameters(tried))
    untried = [f"all zeros flow {some(_places(empty))}"] if empty else []
    untried += [f"the example's output passes by {some(_places(apart))}"] if apart else []
    if not learning:
        why = " (an untrained norm that starts at zero?)" if empty else ""
        return "skipped", f"nothing to learn from yet: {'; '.join(untried)}{why}"
    moving = f"{learning} new tensor{'s, each moves' if learning != 1 else ' moves'} within two steps"
    return "passed", "; not tried: ".join([moving, *([" and ".join(untried)] if untried else [])])


def _places(grafts: Iterable[Made]) -> list[str]:
    return [f"{made.graft.side} {made.graft.site}" for made in grafts]


def _parameters(grafts: Iterable[Made]) -> dict[str, nn.Parameter]:
    return {f"{made.path}.{name}": parameter for made in grafts for name, parameter in made.block.named_parameters()}


def _varied(example: Example) -> Example:
    """Make a batch of unlike inputs, so that no unit is off on all of them by chance."""
    return enlarged(example, lambda x: -x, lambda x: x.flip(-1) / 4, lambda x: 2 * x.roll(1, -1))


def some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
