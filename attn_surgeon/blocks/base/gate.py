"""Gates: the last step of a block, which makes it exactly the identity as long as the gate is closed.

multiply:  y = x · c·g(z)               closed at z = 0, where c·g(0) = 1: 2σ(z) is 1 + tanh(z / 2)
add:       y = x + f                    closed at f = 0
mix:       y = x · m + x' · (1 − m)     closed at m = c·g(0) = 1
blend:     y = x + γ(f − x)             closed at γ = 0, one γ for each channel

A gate is closed by the parameters of the last layer before it, so these have a gradient at the first step, and
everything before them from the second on. `init="paper"` has the published c = 1 and no γ; then most gates cannot be
closed.

Three details keep the identity exact in every precision:

- 2σ(z) is exactly 1 at z = 0, with the slope of the published gate doubled and its range (0, 2) instead of (0, 1).
- γ · d is −0 where d is negative, and x minus −0 turns an x of −0 into +0. Adding 0 leaves only +0 to subtract.
- 0 times infinity is NaN. Where the update is not finite (it overflows in half precision), it is replaced by 0: that
  position passes x on, and γ gets no gradient from it.

ONNX graphs omit the last two: runtimes do not distinguish the zeros, and are given finite features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.exporting import exporting_onnx

GATES = ("sigmoid", "hardsigmoid")  # both are one half at 0
Closing = tuple[Tensor, float]


class Gate(nn.Module):
    """Base class of gates, which know the parameters of their block that close them.

    Layers are referred to by their names in the block, so a gate has no parameters, and a layer may be replaced.

    Args:
        init: `identity` closes the gate.
        owner: the block.
        layers: the names of the layers that close the gate when their parameters are zero.
        bias: the value of these layers' biases that closes it instead of zero.
        closable: whether the gate can be closed.
    """

    __call__: Callable[..., Tensor]
    formula = ""
    closes_all = False  # whether it closes the whole block, other gates inside included

    def __init__(
        self, init: str, owner: nn.Module, layers: Sequence[str], *, bias: float = 0.0, closable: bool = True
    ) -> None:
        super().__init__()
        self.layers, self.bias, self.closable = tuple(layers), bias, closable
        self.count = sum(1 for layer in layers for _ in _parameters_at(owner, layer))
        if init == "identity" and layers:
            self._close(owner)

    def closing_parameters(self, owner: nn.Module) -> list[Closing]:
        """Return the parameters that close the gate, each with its value when closed; `owner` is the gate's block."""
        return [
            (parameter, self.bias if name.endswith("bias") else 0.0)
            for layer in self.layers
            for name, parameter in _parameters_at(owner, layer)
        ]

    def is_closed(self, owner: nn.Module) -> bool:
        """Return whether the gate passes its block's input on bit for bit, whatever the other parameters are."""
        closing = self.closing_parameters(owner)
        if not self.closable or not closing or len(closing) != self.count:  # fewer, where a layer was replaced
            return False
        return all(bool((parameter == value).all()) for parameter, value in closing)

    @torch.no_grad()
    def measure(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Return how far the gate is open at each position, (N, 1, H, W): ‖y − x‖ / ‖x‖ over channels."""
        x, y = inputs[0].double(), output.double()
        change: Tensor = (y - x).norm(dim=1, keepdim=True) / x.norm(dim=1, keepdim=True)
        return change.nan_to_num(nan=0.0, posinf=torch.inf).to(output.dtype)

    @torch.no_grad()
    def _close(self, owner: nn.Module) -> None:
        for parameter, value in self.closing_parameters(owner):
            parameter.fill_(value)


class Multiply(Gate):
    """Multiply features by a gate in their precision: x · c·g(z), with c = 2 for a sigmoid, and 1 for `paper`.

    Args:
        init: `identity` or `paper`.
        owner: the block.
        layers: the names of the layers that compute z.
        function: g, such as `sigmoid`; empty if z is the gate itself.
        rest: the value of g(z) while the layers are zero.
        bias: the value of their biases that closes the gate: one where z is a product of a bias.
    """

    def __init__(
        self,
        init: str,
        owner: nn.Module,
        *layers: str,
        function: str = "sigmoid",
        rest: float = 0.5,
        bias: float = 0.0,
    ) -> None:
        factor = 1.0 if init == "paper" else 1 / rest
        super().__init__(init, owner, layers, bias=bias, closable=factor * rest == 1)
        self.function, self.factor = function, factor
        self.formula = f"y = x · {f'{factor:g} · ' if factor != 1 else ''}{f'{function}(z)' if function else 'z'}"

    def forward(self, x: Tensor, z: Tensor, other: Tensor | None = None) -> Tensor:
        """Return gated features (N, C, H, W); a second z is a second gate."""
        if other is None:
            return x * self.values(x, z)
        if exporting_onnx():  # runtimes are slow to broadcast twice, so the two small gates are multiplied first
            return x * (self.values(x, z) * self.values(x, other))
        return x * self.values(x, z) * self.values(x, other)

    def values(self, x: Tensor, z: Tensor) -> Tensor:
        """Return what features are multiplied by, in their precision."""
        gates = z
        if self.function == "sigmoid":
            gates = torch.sigmoid(z)
        elif self.function == "hardsigmoid":
            gates = hard_sigmoid(z)
        if self.factor != 1:
            gates = self.factor * gates
        return gates.to(x.dtype)

    @torch.no_grad()
    def measure(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Return what features are multiplied by, (N, C or 1, H or 1, W or 1): 1 where the gate is closed."""
        x, *logits = inputs
        gates = self.values(x, logits[0])
        return gates * self.values(x, logits[1]) if len(logits) == 2 else gates


class Add(Gate):
    """Add a block's update to its input."""

    formula = "y = x + f"

    def __init__(self, init: str, owner: nn.Module, *layers: str, closes_all: bool = False) -> None:
        super().__init__(init, owner, layers)
        self.closes_all = closes_all

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Return the sum in the precision of x."""
        return add_residual(x, update)


class Mix(Gate):
    """Mix two features of the same shape: x · m + y · (1 − m), where m is c times the weight of x."""

    formula = "y = x · m + x' · (1 − m)"

    def __init__(self, init: str, owner: nn.Module, *layers: str) -> None:
        super().__init__(init, owner, layers, closable=init != "paper")
        self.factor = 1.0 if init == "paper" else 2.0

    def forward(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of both."""
        return mix(x, y, 1 - self.factor * weight)


class Blend(Gate):
    """Blend a block's output (N, C, H, W) into its input; for `paper`, return the output alone."""

    formula = "y = x + γ(f − x)"
    closes_all = True
    gamma: Tensor | None

    def __init__(self, channels: int, init: str) -> None:
        super().__init__(init, self, (), closable=init != "paper")
        self.gamma = None if init == "paper" else nn.Parameter(torch.zeros(channels, 1, 1))
        self.count = 1

    def closing_parameters(self, owner: nn.Module) -> list[Closing]:
        """Return γ, with 0."""
        return [] if self.gamma is None else [(self.gamma, 0.0)]

    def forward(self, x: Tensor, output: Tensor) -> Tensor:
        """Return x + γ(output − x), in the precision of x."""
        output = output.to(x.dtype)
        if self.gamma is None:
            return output
        if exporting_onnx():
            return x - self.gamma.to(x.dtype) * (x - output)
        return x - (self.gamma.to(x.dtype) * _finite(x - output) + 0.0)


def output_gate(init: str, owner: nn.Module, channels: int, residual: bool, *layers: str) -> Gate:
    """Build the gate of y = x + f, closed by these layers; without a residual, that of y = f."""
    return Add(init, owner, *layers) if residual else Blend(channels, init)


def hard_sigmoid(z: Tensor) -> Tensor:
    """Return z / 6 + 1 / 2, at least 0 and at most 1: exactly one half at 0, which (z + 3) · (1 / 6) is not."""
    return (z / 6 + 0.5).clamp(0, 1)


def add_residual(x: Tensor, update: Tensor) -> Tensor:
    """Return x + update in the precision of x: x bit for bit if the update is zero, of either sign, or not finite.

    A last layer of zeros returns −0 for negative values and NaN for infinities.
    """
    if exporting_onnx():
        return x + update.to(x.dtype)
    return x - (_finite(-update.to(x.dtype)) + 0.0)


def mix(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Return x · (1 − share) + y · share, which is x bit for bit where y has no share."""
    return add_residual(x, share.to(x.dtype) * (y - x))


def _finite(x: Tensor) -> Tensor:
    return torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)


def _parameters_at(owner: nn.Module, name: str) -> Iterable[tuple[str, nn.Parameter]]:
    """Return the parameters of a layer, or the one parameter, of this name."""
    parent, _, last = name.rpartition(".")
    found = getattr(owner.get_submodule(parent), last)
    return found.named_parameters(prefix=name) if isinstance(found, nn.Module) else [(name, found)]
