"""Global context block."""

from __future__ import annotations

import numpy as np

from .arrays import dense, relu, sigmoid, softmax
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES


def gc(x: Array, w: Weights, factor: float) -> Array:
    context = x.mean((2, 3))
    if "mask.weight" in w:
        logits = np.einsum("c,nchw->nhw", w["mask.weight"].ravel(), x)
        context = np.einsum("nhw,nchw->nc", softmax(logits, (1, 2)), x)
    y = x
    if "mul.0.weight" in w:
        y = y * (factor * sigmoid(transform(context, w, "mul")))[:, :, None, None]
    if "add.0.weight" in w:
        y = y + transform(context, w, "add")[:, :, None, None]
    return y


def transform(context: Array, w: Weights, name: str) -> Array:
    hidden = dense(context, w, f"{name}.0")
    normal = (hidden - hidden.mean(1, keepdims=True)) / np.sqrt(hidden.var(1, keepdims=True) + 1e-5)
    return dense(relu(normal * w[f"{name}.1.weight"].ravel() + w[f"{name}.1.bias"].ravel()), w, f"{name}.3")


CASES = [
    Case("gc", gc, channels=(1, 13, 32, 67, 128)),
    Case("gc", gc, {"reduction": 2}),
    Case("gc", gc, {"pooling": "mean"}),
    Case("gc", gc, {"fusion": "mul"}),
    Case("gc", gc, {"fusion": "both", "pooling": "mean"}),
    Case("gc", gc, {"fusion": "both", "reduction": 4}),
]
# 2 · C · C / 16 + 3 · C / 16 + 2 · C: 2 490 368 + 2 688 + 28 672
COUNTS = [
    Count(
        "gc",
        2_521_728,
        "Cao et al. 2019: 44.4 to 46.9 M with blocks of r = 16 in c3 to c5",
        tuple(channels for channels in RESNET50_BRANCHES if channels > 256),
    )
]
