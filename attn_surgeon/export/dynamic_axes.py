"""The dynamic axes of an export, and the input sizes to trace and to compare at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExportError, first_line, nearest, option
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.running import run_network
from attn_surgeon.validation import read_count

NAMES = ("batch", "height", "width")
_SEEDED_IMAGES, _REAL_IMAGES = 3, 8
Size = dict[str, int]


@dataclass(frozen=True)
class Axis:
    """A dynamic axis with its smallest and largest size; `ranged` is whether the user set these."""

    name: str
    low: int = 0
    high: int = 0
    ranged: bool = False


def read_axes(text: str | Sequence[str]) -> tuple[Axis, ...]:
    """Read dynamic axes such as `batch,height=224:448`, `none`, or a list of such parts; raise ExportError otherwise.

    >>> [(axis.name, axis.low, axis.high) for axis in read_axes("height=224:448,batch")]
    [('batch', 0, 0), ('height', 224, 448)]
    """
    parts = text.split(",") if isinstance(text, str) else list(text)
    parts = [] if [part.strip() for part in parts] == ["none"] else parts
    axes = tuple(_read_axis(part.strip()) for part in parts if part.strip())
    names = [axis.name for axis in axes]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise ExportError(f"the axis {duplicates[0]} is named twice", option("dynamic"), "name each once")
    return tuple(sorted(axes, key=lambda axis: NAMES.index(axis.name)))


def _read_axis(text: str) -> Axis:
    name, equals, ends = text.partition("=")
    if name not in NAMES:
        hint = nearest(name, NAMES) or f"known: {', '.join(NAMES)}"
        raise ExportError(f"unknown axis '{name}'", option("dynamic"), hint)
    if not equals:
        return Axis(name)
    low, high = map(read_count, ends.partition(":")[::2])
    if low is None or high is None or low >= high:
        raise ExportError(f"invalid range '{ends}'", option("dynamic"), f"write it as {name}=1:32")
    return Axis(name, low, high, ranged=True)


def fill_ranges(
    axes: Sequence[Axis], model: nn.Module, preprocessing: Preprocessing, *, seeded: bool = True
) -> tuple[Axis, ...]:
    """Return the axes with default ranges where the user set none.

    A batch ranges from 1 to 3, or to 8 with real instead of `seeded` images; a height or width from the input size to
    another that the network accepts. Raises ExportError where it accepts only one.
    """
    batch = _SEEDED_IMAGES if seeded else _REAL_IMAGES
    return tuple(axis if axis.ranged else _with_range(axis, model, preprocessing, batch) for axis in axes)


def _with_range(axis: Axis, model: nn.Module, preprocessing: Preprocessing, batch: int) -> Axis:
    if axis.name == "batch":
        return replace(axis, low=1, high=batch)
    side = preprocessing.size[NAMES.index(axis.name) - 1]
    reason = ""
    for other in dict.fromkeys((side + 32, side * 3 // 2, side * 2, side // 2)):
        size = list(preprocessing.size)
        size[NAMES.index(axis.name) - 1] = other
        try:
            run_network(model, _blank(replace(preprocessing, size=(size[0], size[1]))))
            return replace(axis, low=min(side, other), high=max(side, other))
        except Exception as error:  # a network may raise anything at a size that it does not accept
            reason = reason or first_line(error)
    what = f"the network takes no {axis.name} but {side}: {reason}"
    raise ExportError(what, option("dynamic"), "leave the axis out")


def _blank(preprocessing: Preprocessing) -> Tensor:
    return torch.zeros(1, preprocessing.channels, *preprocessing.size)


def corners(axes: Sequence[Axis], size: tuple[int, int]) -> Iterator[Size]:
    """Yield the sizes to compare at: each dynamic axis at both ends of its range, in every combination."""
    static: Mapping[str, tuple[int, ...]] = {"batch": (1,), "height": (size[0],), "width": (size[1],)}
    ends = {**static, **{axis.name: (axis.low, axis.high) for axis in axes}}
    for values in itertools.product(*ends.values()):
        yield dict(zip(ends, values, strict=True))


def traced(axes: Sequence[Axis], size: tuple[int, int]) -> Size:
    """Return the size to trace at; a dynamic batch is not 1, because torch.export specialises sizes 0 and 1."""
    sizes = {"batch": 1, "height": size[0], "width": size[1]}
    for axis in axes:
        default = _SEEDED_IMAGES if axis.name == "batch" else sizes[axis.name]
        sizes[axis.name] = min(max(default, axis.low), axis.high)
    return sizes


def axis_index(axis: Axis, *, pixels: bool) -> int:
    """Return the index of an axis in images (N, C, H, W) or, with `pixels`, in images (N, H, W, C).

    >>> axis_index(Axis("height"), pixels=False), axis_index(Axis("height"), pixels=True)
    (2, 1)
    """
    return NAMES.index(axis.name) + (axis.name != "batch" and not pixels)
