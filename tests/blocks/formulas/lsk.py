"""Large selective kernel."""

from __future__ import annotations

import numpy as np

from .arrays import conv, pointwise, sigmoid
from .case import Array, Case, Weights


def lsk(x: Array, w: Weights, factor: float) -> Array:
    near = conv(x, w, "near", groups=x.shape[1])
    far = conv(near, w, "far", groups=x.shape[1], dilation=3)
    near, far = pointwise(near, w, "reduce_near"), pointwise(far, w, "reduce_far")
    both = np.concatenate((near, far), 1)
    choice = sigmoid(conv(np.stack((both.mean(1), both.max(1)), 1), w, "choose"))
    return x * pointwise(choice[:, [0]] * near + choice[:, [1]] * far, w, "mix")


CASES = [
    Case("lsk", lsk, channels=(1, 2, 13, 16), size=(12, 7)),
    Case("lsk", lsk, {"reduction": 3, "kernel_size": 3}),
]
