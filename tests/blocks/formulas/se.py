"""Squeeze-and-Excitation."""

from __future__ import annotations

from .arrays import dense, relu, sigmoid
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES


def se(x: Array, w: Weights, factor: float) -> Array:
    z = dense(relu(dense(x.mean((2, 3)), w, "fc1")), w, "fc2")
    return x * (factor * sigmoid(z))[:, :, None, None]


CASES = [Case("se", se, channels=(13, 32, 67)), Case("se", se, {"reduction": 4})]
COUNTS = [
    Count("se", 2_514_944, "Hu et al. 2018: about 2.5 M in ResNet-50", RESNET50_BRANCHES, suffix="weight"),
    Count("se", 28_088_024 - 25_557_032, "timm: seresnet50 less resnet50", RESNET50_BRANCHES),
]
