"""Bottleneck attention, its channel half."""

from __future__ import annotations

from .arrays import batch_norm, dense, relu, sigmoid
from .case import Array, Case, Weights


def channel_half(x: Array, w: Weights, factor: float) -> Array:
    hidden = relu(batch_norm(dense(x.mean((2, 3)), w, "branch.fc1"), w, "branch.bn"))
    return x * (1 + sigmoid(dense(hidden, w, "branch.fc2")))[:, :, None, None]


CASES = [
    Case("bam-channel", channel_half, channels=(1, 13, 32, 67)),
    Case("bam-channel", channel_half, {"reduction": 4}),
]
