"""ParNet's block."""

from __future__ import annotations

from .arrays import batch_norm, conv, dense, pointwise, sigmoid
from .case import Array, Case, Weights


def parnet(x: Array, w: Weights, factor: float) -> Array:
    skip = batch_norm(x, w, "bn")
    excited = skip * sigmoid(dense(skip.mean((2, 3)), w, "fc"))[:, :, None, None]
    total = batch_norm(pointwise(x, w, "conv1"), w, "bn1") + batch_norm(conv(x, w, "conv3"), w, "bn3") + excited
    return total * sigmoid(total)


CASES = [Case("parnet", parnet, channels=(1, 13, 32))]
