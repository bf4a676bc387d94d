"""Options that several blocks share, by the names that PyTorch uses."""

from __future__ import annotations

from torch import nn

from attn_surgeon.blocks.base.card import Option
from attn_surgeon.blocks.base.gate import GATES

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "identity": nn.Identity,
}
GATE = Option("gate", "sigmoid", "the function of the gate's logits", choices=GATES)
HIDDEN = Option("hidden", None, "hidden channels (default: C / reduction, at least `least`)", minimum=1)
RESIDUAL = Option("residual", True, "add the input; false returns the branch alone")
UNBIASED = Option("unbiased", False, "divide the variance by H·W − 1, as the authors' code does")


def activation_option(default: str) -> Option:
    """Return the option of a block whose hidden layer is followed by an activation."""
    return Option("activation", default, "activation after the hidden layer", choices=tuple(_ACTIVATIONS))


def least_option(default: int) -> Option:
    """Return the option of a block whose hidden layer has a minimum width."""
    return Option("least", default, "minimum of hidden channels; a single one may be inactive after a ReLU", minimum=1)


def momentum_option(default: float) -> Option:
    """Return the option of a block with a batch norm whose momentum differs from PyTorch's 0.1."""
    return Option("momentum", default, "weight of a batch in the norm's running statistics", minimum=1e-4, maximum=1.0)


def make_activation(name: str) -> nn.Module:
    """Build an activation layer by its name."""
    return _ACTIVATIONS[name]()
