"""Style-based recalibration."""

from __future__ import annotations

import numpy as np

from .arrays import batch_norm, sigmoid
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES


def srm(x: Array, w: Weights, factor: float) -> Array:
    of_mean, of_deviation = w["cfc.weight"][:, 0, :, 0].T
    z = of_mean * x.mean((2, 3)) + of_deviation * np.sqrt(x.var((2, 3)) + 1e-5)
    return x * (factor * sigmoid(batch_norm(z, w, "bn")))[:, :, None, None]


CASES = [Case("srm", srm, channels=(1, 13, 32))]
COUNTS = [Count("srm", 60_416, "Lee et al. 2019: 25.56 to 25.62 M in ResNet-50", RESNET50_BRANCHES)]
