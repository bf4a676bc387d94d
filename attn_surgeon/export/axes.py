"""The axes of the images that an export leaves open, and the sizes at which it is checked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExportError, first_line, nearest
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.running import run

NAMES = ("batch", "height", "width")
_SEEDED_IMAGES, _REAL_IMAGES = 3, 8
Size = dict[str, int]


@dataclass(frozen=True)
class Axis:
    """An axis left open, from its lowest to its highest size; `ranged` where the user said these."""

    name: str
    low: int = 0
    high: int = 0
    ranged: bool = False


def read_axes(given: str | Sequence[str]) -> tuple[Axis, ...]:
    """Read `batch,height=224:448`, `none`, or a list of such parts; raise ExportError where it is no list of axes."""
    parts = given.split(",") if isinstance(given, str) else list(given)
    parts = [] if [part.strip() for part in parts] == ["none"] else parts
    axes = tuple(_read_axis(part.strip()) for part in parts if part.strip())
    names = [axis.name for axis in axes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ExportError(f"the axis {twice[0]} is named twice", "--dynamic", "name each once")
    return tuple(sorted(axes, key=lambda axis: NAMES.index(axis.name)))


def _read_axis(text: str) -> Axis:
    name, equals, ends = text.partition("=")
    if name not in NAMES:
        hint = nearest(name, NAMES) or f"they are {', '.join(NAMES)}"
        raise ExportError(f"no axis is called '{name}'", "--dynamic", hint)
    if not equals:
        return Axis(name)
    low, _, high = ends.partition(":")
    if not (low.isdecimal() and high.isdecimal() and 0 < int(low) < int(high)):
        raise ExportError(f"'{ends}' is no range", "--dynamic", f"write it as {name}=1:32")
    return Axis(name, int(low), int(high), ranged=True)


def fill_ranges(
    axes: Sequence[Axis], model: nn.Module, preprocessing: Preprocessing, *, seeded: bool = True
) -> tuple[Axis, ...]:
    """Find the two sizes at which an axis is checked where the user named none.

    A batch goes from 1 to 3, or 8 where images are not `seeded` but real, a side from the network's own to the next
    that it takes. Raises ExportError where it takes one only.
    """
    batch = _SEEDED_IMAGES if seeded else _REAL_IMAGES
    return tuple(axis if axis.ranged else _found(axis, model, preprocessing, batch) for axis in axes)


def _found(axis: Axis, model: nn.Module, preprocessing: Preprocessing, batch: int) -> Axis:
    if axis.name == "batch":
        return replace(axis, low=1, high=batch)
    own = preprocessing.size[NAMES.index(axis.name) - 1]
    reason = ""
    for other in dict.fromkeys((own + 32, own * 3 // 2, own * 2, own // 2)):
        size = list(preprocessing.size)
        size[NAMES.index(axis.name) - 1] = other
        try:
            run(model, _blank(replace(preprocessing, size=(size[0], size[1]))))
            return replace(axis, low=min(own, other), high=max(own, other))
        except Exception as error:  # whatever a network raises at a size that it does not take
            reason = reason or first_line(error)
    what = f"the network takes no {axis.name} but {own}: {reason}"
    raise ExportError(what, "--dynamic", "leave the axis out")


def _blank(preprocessing: Preprocessing) -> Tensor:
    return torch.zeros(1, preprocessing.channels, *preprocessing.size)


def corners(axes: Sequence[Axis], size: tuple[int, int]) -> Iterator[Size]:
    """List the sizes to check: every axis left open at both of its ends, with all the others."""
    own: Mapping[str, tuple[int, ...]] = {"batch": (1,), "height": (size[0],), "width": (size[1],)}
    ends = {**own, **{axis.name: (axis.low, axis.high) for axis in axes}}
    for values in itertools.product(*ends.values()):
        yield dict(zip(ends, values, strict=True))


def traced(axes: Sequence[Axis], size: tuple[int, int]) -> Size:
    """Give the size to trace at: none that the exporter takes for a constant."""
    own = {"batch": 1, "height": size[0], "width": size[1]}
    for axis in axes:
        usual = _SEEDED_IMAGES if axis.name == "batch" else own[axis.name]
        own[axis.name] = min(max(usual, axis.low), axis.high)
    return own
