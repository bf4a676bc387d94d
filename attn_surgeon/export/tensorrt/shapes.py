"""The optimisation profile of an engine: its smallest, typical and largest input shapes."""

from __future__ import annotations

from dataclasses import dataclass

from attn_surgeon.errors import ExportError, excerpt, option
from attn_surgeon.export.dynamic_axes import NAMES, Axis
from attn_surgeon.validation import read_count

BatchShape = tuple[int, int, int, int]
_OPTION = option("shapes")


@dataclass(frozen=True)
class Shapes:
    """The shapes (N, C, H, W) of an optimisation profile."""

    low: BatchShape
    typical: BatchShape
    high: BatchShape

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The dynamic axes."""
        ends = zip(NAMES, sides(self.low), sides(self.high), strict=True)
        return tuple(Axis(name, low, high, ranged=True) for name, low, high in ends if low != high)


def sides(shape: BatchShape) -> tuple[int, int, int]:
    """Return batch, height and width.

    >>> sides((8, 3, 224, 320))
    (8, 224, 320)
    """
    return shape[0], shape[2], shape[3]


def read_shapes(text: str, channels: int) -> Shapes:
    """Read `1x3x224x224,8x3x224x224,32x3x224x224`, or one shape; raise ExportError where it cannot be read.

    >>> read_shapes("1x3x224x224,8x3x224x224,32x3x224x224", 3).typical
    (8, 3, 224, 224)
    """
    shapes = [_read(part) for part in text.split(",")]
    if len(shapes) not in (1, 3):
        raise ExportError(
            f"expected 1 or 3 shapes, got {len(shapes)}", _OPTION, "set the smallest, typical and largest"
        )
    low, typical, high = shapes if len(shapes) == 3 else shapes * 3
    if any(shape[1] != channels for shape in shapes):
        raise ExportError(f"the network takes images of {channels} channels", _OPTION, "write NxCxHxW")
    if not all(least <= middle <= most for least, middle, most in zip(low, typical, high, strict=True)):
        raise ExportError("the shapes are not in ascending order", _OPTION, "set the smallest, typical and largest")
    return Shapes(low, typical, high)


def _read(text: str) -> BatchShape:
    parts = [part for part in map(read_count, text.lower().split("x", 4)) if part is not None]
    if len(parts) != 4 or text.lower().count("x") != 3:
        raise ExportError(f"invalid shape '{excerpt(text)}'", _OPTION, "write NxCxHxW, as 1x3x224x224")
    n, c, h, w = parts
    return n, c, h, w
