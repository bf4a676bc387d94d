"""Layouts: which axis of a tensor is the channel, which are spatial, and how many tokens are prefix tokens.

They are inferred from two runs at different image sizes: the axis that does not scale with the input is the channel.
If a network takes one size only, a map is recognised by the image's aspect ratio; if that is ambiguous, the channel is
the axis whose length most parameter vectors of the module have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from torch import nn

LAYOUTS = ("NCHW", "NHWC", "NLC", "NCL", "NC", "NCDHW", "NDHWC")
_BY_RANK = {2: ("NC",), 3: ("NLC", "NCL"), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}
_MOST_PREFIX_TOKENS = 16
_ASPECT_TOLERANCE = 0.05  # relative
_GRID_TOLERANCE = 0.3  # of the logarithm of the aspect ratio


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
        """The number of positions in one channel, without prefix tokens."""
        return math.prod(self.shape[1:]) // self.channels - self.prefix


def read_feature(
    shape: Sequence[int],
    dtype: str,
    *,
    resized: Sequence[int] | None,
    vectors: Counter[int],
    images: Sequence[tuple[int, int]],
    grids: Sequence[Collection[tuple[int, int]]] = (),
) -> Feature | None:
    """Return a tensor as a feature, with the meaning of its axes; None if it is not a feature map.

    Args:
        shape: its shape in the example run.
        dtype: its dtype, such as `float32`.
        resized: its shape at the second input size, if the network was run at one.
        vectors: how many parameter vectors of each length there are in the module.
        images: the (H, W) of the input at each size.
        grids: the (H, W) of the maps in each run.
    """
    shape = tuple(int(size) for size in shape)
    if len(shape) not in _BY_RANK or 0 in shape or not dtype.startswith(("float", "bfloat")):
        return None
    layout = _by_scaling(shape, resized)
    if layout is None and _scales(shape, resized):
        return None
    layout = layout or _by_vectors(shape, vectors, images, grids)
    if layout is None:
        return None
    channels = shape[layout.index("C")]
    prefix, grid = _tokens(shape, resized, images, grids) if layout == "NLC" else (0, None)
    return Feature(shape, dtype, layout, channels, prefix, grid)


def _by_scaling(shape: tuple[int, ...], resized: Sequence[int] | None) -> str | None:
    """Return the layout whose channel axis keeps its length while its height, width and length change."""
    if resized is None or len(resized) != len(shape):
        return None
    changed = [size != other for size, other in zip(shape, resized, strict=True)]
    fitting = [
        layout
        for layout in _BY_RANK[len(shape)]
        if all(axis in "ND" or (axis != "C") == changed[index] for index, axis in enumerate(layout))
    ]
    return fitting[0] if len(fitting) == 1 else None


def _scales(shape: tuple[int, ...], resized: Sequence[int] | None) -> bool:
    return resized is not None and len(resized) == len(shape) and tuple(resized[1:]) != shape[1:]


def _by_vectors(
    shape: tuple[int, ...],
    vectors: Counter[int],
    images: Sequence[tuple[int, int]],
    grids: Sequence[Collection[tuple[int, int]]],
) -> str | None:
    """Return, of the layouts with the image's aspect ratio, that whose channels most parameter vectors have as length.

    Ties are decided by a length that is the size of a map, else by the order of `_BY_RANK`. None where no layout has
    the aspect ratio and no vector fits, such as for the (N, heads, L, C / heads) inside attention.
    """
    candidates = _BY_RANK[len(shape)]
    fitting = [layout for layout in candidates if _has_aspect(shape, layout, images)]
    known = _whole_patches(images[0]).union(*grids[:1]) if images else set()

    def fit(layout: str) -> tuple[bool, int, bool]:
        channels, length = shape[layout.index("C")], shape[layout.index("L")] if "L" in layout else 0
        return channels > 1, vectors[channels], bool(known) and bool(_grid(length, known, images[0]))

    best = max(fitting or candidates, key=fit)
    return best if fitting or vectors[shape[best.index("C")]] else None


def _has_aspect(shape: tuple[int, ...], layout: str, images: Sequence[tuple[int, int]]) -> bool:
    """Return whether height and width have the image's aspect ratio; true for layouts without them."""
    if "H" not in layout or not images:
        return True
    factors = (images[0][0] / shape[layout.index("H")], images[0][1] / shape[layout.index("W")])
    return max(factors) - min(factors) <= _ASPECT_TOLERANCE * max(factors)


def _tokens(
    shape: tuple[int, ...],
    resized: Sequence[int] | None,
    images: Sequence[tuple[int, int]],
    grids: Sequence[Collection[tuple[int, int]]],
) -> tuple[int, tuple[int, int] | None]:
    """Return the fewest prefix tokens for which the others form a map of whole patches or of the run, and that map."""
    if not images:
        return 0, None
    lengths = [shape[1]] + ([int(resized[1])] if resized is not None and len(images) > 1 else [])
    known = [_whole_patches(image) | set(seen) for image, seen in zip_longest(images, grids, fillvalue=())]
    for prefix in range(min(_MOST_PREFIX_TOKENS, shape[1])):
        fitting = [_grid(length - prefix, known[i], images[i]) for i, length in enumerate(lengths)]
        if all(grid is not None for grid in fitting):
            return prefix, fitting[0]
    return 0, None


def _whole_patches(image: Sequence[int]) -> set[tuple[int, int]]:
    height, width = image
    patches = (patch for patch in range(1, min(image) + 1) if height % patch == 0 == width % patch)
    return {(height // patch, width // patch) for patch in patches}


def _grid(count: int, known: Collection[tuple[int, int]], image: Sequence[int]) -> tuple[int, int] | None:
    """Return the grid of a number of positions whose aspect ratio is nearest the image's."""
    fitting = [
        grid for grid in known if 0 < grid[0] * grid[1] == count and _aspect_distance(grid, image) <= _GRID_TOLERANCE
    ]
    return min(fitting, key=lambda grid: _aspect_distance(grid, image), default=None)


def _aspect_distance(grid: Sequence[int], image: Sequence[int]) -> float:
    return abs(math.log(grid[0] * image[1] / (grid[1] * image[0])))


def vector_lengths(module: nn.Module) -> Counter[int]:
    """Count the lengths of the parameter vectors (norm weights, biases) in a module."""
    return Counter(p.shape[0] for p in module.parameters() if p.ndim == 1)
