"""Squeeze-and-Excitation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .arrays import dense, hard_sigmoid, relu, sigmoid, silu
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES


def se(
    x: Array,
    w: Weights,
    factor: float,
    activation: Callable[[Array], Array] = relu,
    gate: Callable[[Array], Array] = sigmoid,
) -> Array:
    z = dense(activation(dense(x.mean((2, 3)), w, "fc1")), w, "fc2")
    return x * (factor * gate(z))[:, :, None, None]


CASES = [
    Case("se", se, channels=(13, 32, 67)),
    Case("se", se, {"reduction": 4}),
    Case("se", se, {"bias": False}),
    Case("se", se, {"least": 1}, channels=(1, 16, 24)),
    Case("se", partial(se, activation=silu), {"activation": "silu"}),
    Case("se", partial(se, gate=hard_sigmoid), {"gate": "hardsigmoid"}),
]
COUNTS = [
    Count("se", 2_514_944, "Hu et al. 2018: about 2.5 M in ResNet-50", RESNET50_BRANCHES, suffix="weight"),
    Count("se", 28_088_024 - 25_557_032, "timm: seresnet50 less resnet50", RESNET50_BRANCHES),
]
