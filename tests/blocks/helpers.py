"""What the tests of blocks share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec, build_block

NAMES = ["cbam", "channel", "coord", "eca", "gate", "mdaf", "se", "spatial"]
POOLING = ["channel", "eca", "se"]
SPATIAL = ["cbam", "coord", "gate", "mdaf", "spatial"]
PAIRS = ["gate", "mdaf"]
Array = NDArray[np.float64]


def block(name: str, channels: int, init: str = "identity", **options: Any) -> nn.Module:
    return build_block(spec(name, channels, init, **options), channels)


def spec(name: str, channels: int, init: str = "identity", **options: Any) -> BlockSpec:
    """Name a block that fits any number of channels: as many heads as divide them."""
    heads = {"heads": math.gcd(8, channels)} if name == "mdaf" else {}
    return BlockSpec.read(name, {**heads, **options}, init)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def batch_norm(z: Array, w: dict[str, Array], name: str) -> Array:
    """Normalise (N, C, ...) by the running statistics."""
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    scale = w[f"{name}.weight"] / np.sqrt(var + 1e-5)
    along = (-1,) + (1,) * (z.ndim - 2)
    normal: Array = (z - mean.reshape(along)) * scale.reshape(along) + w[f"{name}.bias"].reshape(along)
    return normal


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
    for norm in [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return module
