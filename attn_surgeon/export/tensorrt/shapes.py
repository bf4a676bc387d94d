"""The smallest, usual and largest images that an engine is built for."""

from __future__ import annotations

from dataclasses import dataclass

from attn_surgeon.errors import ExportError
from attn_surgeon.export.axes import NAMES, Axis

Shape = tuple[int, int, int, int]
_OPTION = "--shapes"


@dataclass(frozen=True)
class Shapes:
    """The shapes (N, C, H, W) of an optimisation profile."""

    low: Shape
    usual: Shape
    high: Shape

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Give the axes that they leave open."""
        ends = zip(NAMES, sides(self.low), sides(self.high), strict=True)
        return tuple(Axis(name, low, high, ranged=True) for name, low, high in ends if low != high)


def sides(shape: Shape) -> tuple[int, int, int]:
    """Give batch, height and width."""
    return shape[0], shape[2], shape[3]


def read_shapes(text: str, channels: int) -> Shapes:
    """Read 1x3x224x224,8x3x224x224,32x3x224x224, or one shape alone; raise ExportError where it is none."""
    shapes = [_read(part) for part in text.split(",")]
    if len(shapes) not in (1, 3):
        raise ExportError(f"{len(shapes)} shapes are given", _OPTION, "give one, or the smallest, usual and largest")
    low, usual, high = shapes if len(shapes) == 3 else shapes * 3
    if any(shape[1] != channels for shape in shapes):
        raise ExportError(f"the network takes images of {channels} channels", _OPTION, "write NxCxHxW")
    if not all(one <= two <= three for one, two, three in zip(low, usual, high, strict=True)):
        raise ExportError("the shapes do not grow from the first to the last", _OPTION, "smallest, usual, largest")
    return Shapes(low, usual, high)


def _read(text: str) -> Shape:
    parts = text.strip().lower().split("x")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise ExportError(f"'{text.strip()}' is no shape", _OPTION, "write NxCxHxW, as 1x3x224x224")
    n, c, h, w = map(int, parts)
    return n, c, h, w
