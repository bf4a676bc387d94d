"""The dynamic axes of an export, and the sizes at which it is compared with PyTorch."""

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
    """A dynamic axis, from its smallest to its largest size; `ranged` where the user gave these."""

    name: str
    low: int = 0
    high: int = 0
    ranged: bool = False


def read_axes(given: str | Sequence[str]) -> tuple[Axis, ...]:
    """Read the dynamic axes `batch,height=224:448`, `none`, or a list of such parts; raise ExportError otherwise.

    >>> [(axis.name, axis.low, axis.high) for axis in read_axes("height=224:448,batch")]
    [('batch', 0, 0), ('height', 224, 448)]
    """
    parts = given.split(",") if isinstance(given, str) else list(given)
    parts = [] if [part.strip() for part in parts] == ["none"] else parts
    axes = tuple(_read_axis(part.strip()) for part in parts if part.strip())
    names = [axis.name for axis in axes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ExportError(f"the axis {twice[0]} is named twice", option("dynamic"), "name each once")
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
    """Return the axes with a smallest and a largest size where the user gave none.

    A batch goes from 1 to 3, or to 8 where images are not `seeded` but real; a height or width from the network's own
    to another that it takes. Raises ExportError where it takes only one.
    """
    batch = _SEEDED_IMAGES if seeded else _REAL_IMAGES
    return tuple(axis if axis.ranged else _with_range(axis, model, preprocessing, batch) for axis in axes)


def _with_range(axis: Axis, model: nn.Module, preprocessing: Preprocessing, batch: int) -> Axis:
    if axis.name == "batch":
        return replace(axis, low=1, high=batch)
    own = preprocessing.size[NAMES.index(axis.name) - 1]
    reason = ""
    for other in dict.fromkeys((own + 32, own * 3 // 2, own * 2, own // 2)):
        size = list(preprocessing.size)
        size[NAMES.index(axis.name) - 1] = other
        try:
            run_network(model, _blank(replace(preprocessing, size=(size[0], size[1]))))
            return replace(axis, low=min(own, other), high=max(own, other))
        except Exception as error:  # whatever a network raises at a size that it does not take
            reason = reason or first_line(error)
    what = f"the network takes no {axis.name} but {own}: {reason}"
    raise ExportError(what, option("dynamic"), "leave the axis out")


def _blank(preprocessing: Preprocessing) -> Tensor:
    return torch.zeros(1, preprocessing.channels, *preprocessing.size)


def corners(axes: Sequence[Axis], size: tuple[int, int]) -> Iterator[Size]:
    """Yield the sizes to check: each dynamic axis at both of its ends, in every combination."""
    own: Mapping[str, tuple[int, ...]] = {"batch": (1,), "height": (size[0],), "width": (size[1],)}
    ends = {**own, **{axis.name: (axis.low, axis.high) for axis in axes}}
    for values in itertools.product(*ends.values()):
        yield dict(zip(ends, values, strict=True))


def traced(axes: Sequence[Axis], size: tuple[int, int]) -> Size:
    """Return the size to trace at: on dynamic axes none, such as 1, that the exporter takes for a constant."""
    own = {"batch": 1, "height": size[0], "width": size[1]}
    for axis in axes:
        usual = _SEEDED_IMAGES if axis.name == "batch" else own[axis.name]
        own[axis.name] = min(max(usual, axis.low), axis.high)
    return own


def axis_index(axis: Axis, *, pixels: bool) -> int:
    """Return the index of an axis in images (N, C, H, W), or in pixels (N, H, W, C).

    >>> axis_index(Axis("height"), pixels=False), axis_index(Axis("height"), pixels=True)
    (2, 1)
    """
    return NAMES.index(axis.name) + (axis.name != "batch" and not pixels)
