"""A network as a picture shows it: boxes, the arrows between them, and the frames around those of one open part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

INPUT, OUTPUT, OWN = "input", "output", "own code"


@dataclass(frozen=True)
class Box:
    """One box: the part it stands for, the open parts around it, and what comes out of it.

    `groups` are those of what comes out of it, `inner` those of the sites inside it; `grafts` are those of both.
    """

    name: str
    type: str
    shapes: tuple[str, ...]
    frames: tuple[str, ...]
    parameters: int = 0
    count: int = 1
    groups: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    grafts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrow:
    """A value on its way from one box to another."""

    source: str
    target: str
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A network as boxes, in the order of execution, arrows, and frames with how often each repeats."""

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    frames: Mapping[str, int]


def connected(drawn: Chart) -> Chart:
    """Leave out boxes that nothing flows through, such as those of values made from nothing."""
    ends = {INPUT, OUTPUT} | {end for arrow in drawn.arrows for end in (arrow.source, arrow.target)}
    boxes = tuple(box for box in drawn.boxes if box.name in ends)
    return replace(drawn, boxes=boxes)
