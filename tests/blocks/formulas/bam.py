"""BAM and its spatial half."""

from __future__ import annotations

from functools import partial

from .arrays import batch_norm, conv, dense, relu, sigmoid
from .case import Array, Case, Count, Weights


def gated(x: Array, z: Array, factor: float) -> Array:
    return x * (1 + sigmoid(z) if factor == 1 else 2 * sigmoid(z))


def spatial_branch(x: Array, w: Weights, dilation: int, convolutions: int = 2) -> Array:
    hidden = relu(batch_norm(conv(x, w, "spatial.reduce"), w, "spatial.bn0"))
    for index in (1, 2):
        wide = conv(hidden, w, f"spatial.conv{index}", dilation=dilation)
        hidden = relu(batch_norm(wide, w, f"spatial.bn{index}"))
    for index in range(convolutions - 2):
        wide = conv(hidden, w, f"spatial.more.{3 * index}", dilation=dilation)
        hidden = relu(batch_norm(wide, w, f"spatial.more.{3 * index + 1}"))
    return conv(hidden, w, "spatial.last")


def spatial(x: Array, w: Weights, factor: float, dilation: int = 4, convolutions: int = 2) -> Array:
    return gated(x, spatial_branch(x, w, dilation, convolutions), factor)


def bam(x: Array, w: Weights, factor: float, dilation: int = 4) -> Array:
    hidden = relu(batch_norm(dense(x.mean((2, 3)), w, "channel.fc1"), w, "channel.bn"))
    of_channels = dense(hidden, w, "channel.fc2")[:, :, None, None]
    return gated(x, of_channels + spatial_branch(x, w, dilation), factor)


CASES = [
    Case("bam-spatial", spatial, channels=(13, 32, 67), size=(7, 11)),
    Case("bam-spatial", partial(spatial, dilation=2), {"reduction": 4, "dilation": 2}),
    Case("bam-spatial", partial(spatial, convolutions=3), {"convolutions": 3, "least": 6}),
    Case("bam", bam, channels=(13, 32, 67), size=(11, 7)),
    Case("bam", partial(bam, dilation=1), {"reduction": 3, "dilation": 1}),
]
# 3Cm + 18m² + 9m + C + 1, m = C / 16, for C = 256, 512 and 1024
COUNTS = [
    Count(
        "bam",
        357_619,
        "Park et al. 2018: from 25.56 M to 25.92 M in ResNet-50, after its first three stages",
        (256, 512, 1024),
    )
]
