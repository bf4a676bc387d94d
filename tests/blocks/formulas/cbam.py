"""CBAM and its halves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .arrays import batch_norm, conv, dense, hard_sigmoid, relu, sigmoid, silu
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES

Function = Callable[[Array], Array]


def channel(
    x: Array, w: Weights, factor: float, prefix: str = "", activation: Function = relu, gate: Function = sigmoid
) -> Array:
    z = sum(
        (
            dense(activation(dense(pooled, w, f"{prefix}mlp.0")), w, f"{prefix}mlp.2")
            for pooled in (x.mean((2, 3)), x.max((2, 3)))
        ),
        np.zeros(1),
    )
    return x * (factor * gate(z))[:, :, None, None]


def spatial(x: Array, w: Weights, factor: float, prefix: str = "", gate: Function = sigmoid) -> Array:
    z = conv(np.stack((x.max(1), x.mean(1)), 1), w, f"{prefix}conv")
    return x * factor * gate(batch_norm(z, w, f"{prefix}bn") if f"{prefix}bn.weight" in w else z)


def cbam(x: Array, w: Weights, factor: float, activation: Function = relu, gate: Function = sigmoid) -> Array:
    return spatial(channel(x, w, factor, "channel.", activation, gate), w, factor, "spatial.", gate)


def wide(x: Array, w: Weights, factor: float, formula: Callable[..., Array], hidden: int) -> Array:
    first = "mlp.0.weight" if "mlp.0.weight" in w else "channel.mlp.0.weight"
    assert len(w[first]) == hidden
    return formula(x, w, factor)


CASES = [
    Case("channel", channel, channels=(13, 32, 67)),
    Case("channel", channel, {"reduction": 4}),
    Case("spatial", spatial),
    *[Case("spatial", spatial, {"kernel_size": size}) for size in (1, 3, 5)],
    Case("cbam", cbam, channels=(13, 32, 67)),
    Case("cbam", cbam, {"reduction": 4, "kernel_size": 3}),
    *[
        case
        for name, formula in (("channel", channel), ("cbam", cbam))
        for case in (
            Case(name, formula, {"bias": False}),
            Case(name, formula, {"least": 1}, channels=(1, 16, 24)),
            Case(name, partial(wide, formula=formula, hidden=5), {"hidden": 5}),
            Case(name, partial(formula, activation=silu), {"activation": "silu"}),
            Case(name, partial(formula, gate=hard_sigmoid), {"gate": "hardsigmoid"}),
        )
    ],
    Case("spatial", spatial, {"norm": False}),
    Case("spatial", spatial, {"norm": False, "bias": True}),
    Case("spatial", spatial, {"momentum": 0.1}),
    Case("spatial", partial(spatial, gate=hard_sigmoid), {"gate": "hardsigmoid"}),
    Case("cbam", cbam, {"norm": False}),
]
COUNTS = [
    Count("cbam", 28_089_624 - 25_557_032, "Woo et al. 2018: from 25.56 M to 28.09 M in ResNet-50", RESNET50_BRANCHES),
]
