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
}
GATE = Option("gate", "sigmoid", "the function that turns logits into gates", choices=GATES)


def activation_option(default: str) -> Option:
    """Return the option of a block whose hidden layer is followed by an activation."""
    return Option("activation", default, "what follows the hidden layer", choices=tuple(_ACTIVATIONS))


def least_option(default: int) -> Option:
    """Return the option of a block whose hidden layer has a minimum width."""
    return Option("least", default, "minimum of hidden channels; a ReLU may turn a single one off", minimum=1)


def make_activation(name: str) -> nn.Module:
    """Build an activation layer by its name."""
    return _ACTIVATIONS[name]()
