"""What the axes of a tensor mean: which is the channel, which are places, which tokens are no places.

Two example sizes tell: the axis that does not scale with the input is the channel. Where a network takes only one
size, the parameters nearby do: the axis as long as most of their vectors is the channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

LAYOUTS = ("NCHW", "NHWC", "NLC", "NCL", "NC", "NCDHW", "NDHWC")
_BY_RANK = {2: ("NC",), 3: ("NLC", "NCL"), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}
_MOST_PREFIX_TOKENS = 16


@dataclass(frozen=True)
class Feature:
    """A tensor that flows through a site in the example run.

    `prefix` counts the tokens before the spatial ones (class, distillation, registers); `grid` is the (H, W) that
    the others form, where there is one.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str
    channels: int
    prefix: int = 0
    grid: tuple[int, int] | None = None

    @property
    def positions(self) -> int:
        """Count the places in one channel."""
        count = 1
        for size in self.shape[1:]:
            count *= size
        return count // self.channels

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read a feature from plain data."""
        grid = data.get("grid")
        grid = None if grid is None else (int(grid[0]), int(grid[1]))
        return cls(**{**data, "shape": tuple(data["shape"]), "grid": grid})


def read_feature(
    shape: Sequence[int],
    dtype: str,
    *,
    probe: Sequence[int] | None,
    vectors: Counter[int],
    images: Sequence[tuple[int, int]],
) -> Feature | None:
    """Tell what a tensor's axes are; None where it is no feature map.

    `probe` is its shape at the second input size, `vectors` the lengths of parameter vectors nearby, `images` the
    input's (H, W) in the example and, if it was run, in the probe.
    """
    shape = tuple(int(size) for size in shape)
    if len(shape) not in _BY_RANK or 0 in shape or not dtype.startswith(("float", "bfloat")):
        return None
    layout = _by_scaling(shape, probe) or _by_vectors(shape, vectors)
    channels = shape[layout.index("C")]
    prefix, grid = _tokens(shape, probe, images) if layout == "NLC" else (0, None)
    return Feature(shape, dtype, layout, channels, prefix, grid)


def _by_scaling(shape: tuple[int, ...], probe: Sequence[int] | None) -> str | None:
    """Choose the layout whose channel axis keeps its length while every other axis changes."""
    if probe is None or len(probe) != len(shape):
        return None
    changed = [size != other for size, other in zip(shape[1:], probe[1:], strict=True)]
    fitting = [
        layout
        for layout in _BY_RANK[len(shape)]
        if [axis != "C" for axis in layout[1:]] == changed or (len(shape) == 2 and not any(changed))
    ]
    return fitting[0] if len(fitting) == 1 else None


def _by_vectors(shape: tuple[int, ...], vectors: Counter[int]) -> str:
    """Choose the layout whose channel axis is the length of most parameter vectors nearby; the usual one on a tie."""
    candidates = _BY_RANK[len(shape)]
    return max(candidates, key=lambda layout: vectors[shape[layout.index("C")]])


def _tokens(
    shape: tuple[int, ...], probe: Sequence[int] | None, images: Sequence[tuple[int, int]]
) -> tuple[int, tuple[int, int] | None]:
    """Find the fewest prefix tokens for which the rest is the image divided by a whole patch size."""
    lengths = [shape[1]] + ([int(probe[1])] if probe is not None and len(images) > 1 else [])
    for prefix in range(min(_MOST_PREFIX_TOKENS, shape[1])):
        for patch in range(1, min(images[0] if images else (), default=0) + 1):
            grids = [_grid(image, patch) for image in images[: len(lengths)]]
            if all(
                grid is not None and grid[0] * grid[1] == length - prefix
                for grid, length in zip(grids, lengths, strict=True)
            ):
                return prefix, grids[0]
    return 0, None


def _grid(image: tuple[int, int], patch: int) -> tuple[int, int] | None:
    height, width = image
    return (height // patch, width // patch) if height % patch == 0 and width % patch == 0 else None


def vector_lengths(module: nn.Module) -> Counter[int]:
    """Count the lengths of the parameter vectors (norm weights, biases) in a module."""
    return Counter(p.shape[0] for p in module.parameters() if p.ndim == 1)
