"""What the tests of blocks share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_surgeon.blocks import BlockSpec, block_names, build_block, get_card
from attn_surgeon.blocks.base.registry import get_factory

NAMES = block_names()
POOLING = [name for name in NAMES if get_card(name).reach == "channels"]
FLAT = [name for name in NAMES if not get_card(name).selective and get_card(name).reach != "map"]
SPATIAL = [name for name in NAMES if get_card(name).runs_on == "map"]
ALONE = [name for name in NAMES if not get_card(name).selective]  # what runs on one map
PAIRS = [name for name in NAMES if get_card(name).inputs == 2]
Array = NDArray[np.float64]


class Unlike(nn.Module):
    """Gives a block of two inputs a map and another made from it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.block(x, x.flip((1, 2, 3)) / 2)
        return made


def block(name: str, channels: int, init: str = "identity", **options: Any) -> nn.Module:
    spec = BlockSpec.read(name, options, init)
    if get_card(name).selective:
        return Unlike(get_factory(name)(channels, **spec.options, init=init))
    return build_block(spec, channels)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def weights(module: nn.Module) -> dict[str, Array]:
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


def bits(x: Tensor) -> Tensor:
    """View as integers, which tell -0 from 0 and one NaN from another."""
    return x.contiguous().view(torch.int32 if x.dtype == torch.float32 else torch.int16)


def still(module: nn.Module, *inputs: Tensor) -> set[str]:
    """List the parameters that two short steps down a random slope move no further than rounding does.

    In double precision, where a bias before a norm moves by 1e-17 and no parameter that learns by less than 1e-9.
    """
    parameters = dict(module.double().named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    inputs = tuple(each.double() for each in inputs)
    slope = torch.randn_like(inputs[0])
    for _ in range(2):
        gradients = torch.autograd.grad((module(*inputs) * slope).sum(), list(parameters.values()))
        largest = max(gradient.abs().max().item() for gradient in gradients)
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.data -= 0.01 * gradient / largest
    return {name for name, now in parameters.items() if (now - before[name]).abs().max().item() < 1e-12}


@torch.no_grad()
def at_random(module: nn.Module) -> nn.Module:
    """Give parameters and statistics at random."""
    for parameter in module.parameters():
        parameter.normal_()
    for norm in [child for child in module.modules() if isinstance(child, _BatchNorm)]:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return module
