"""The frames around the boxes of one open part: which are drawn, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attn_surgeon.draw.arrange import Size
from attn_surgeon.draw.chart import Chart
from attn_surgeon.draw.columns import Edges, Sheet, edges, span

_SIDE, _HEADING = 12.0, 20.0


@dataclass(frozen=True)
class Frame:
    """A frame, or the piece of one in one column."""

    heading: str
    edges: Edges


def held_by_frames(chart: Chart) -> dict[str, list[str]]:
    """Choose the frames to draw: of two around the same boxes the inner one, and none around a single box once."""
    held = {frame: [box.name for box in chart.boxes if frame in box.frames] for frame in chart.frames}
    names = list(held)
    return {
        frame: boxes
        for index, (frame, boxes) in enumerate(held.items())
        if (len(boxes) > 1 or chart.frames[frame] > 1) and not any(held[other] == boxes for other in names[index + 1 :])
    }


def placed_frames(
    chart: Chart, frames: Mapping[str, Sequence[str]], sheet: Sheet, sizes: Mapping[str, Size]
) -> list[Frame]:
    """Place the frames around their boxes and the arrows between those, outer ones first."""
    boxes = {name: edges(sheet.arrangement.centres[name], sizes[name]) for name in sizes}
    placed = []
    for frame in sorted(frames, key=lambda frame: -len(frames[frame])):
        heading = frame + _times(chart, frame, frames)
        for piece in _pieces(frames[frame], sheet):
            around = _around(piece, _levels(frame, frames), boxes, sheet)
            inner = (held for held in frames.values() if set(held) < set(frames[frame]))
            # Around a box that is not in it, a frame would say something wrong; around another frame alone, nothing.
            if not any(set(piece) <= set(held) for held in inner) and not any(
                _meet(around, boxes[name]) for name in boxes if name not in frames[frame]
            ):
                placed.append(Frame(heading, around))
    return placed


def _times(chart: Chart, frame: str, frames: Mapping[str, Sequence[str]]) -> str:
    """Tell how often a frame repeats, unless one around it tells."""
    count = chart.frames[frame]
    around = [other for other in frames if set(frames[frame]) < set(frames[other])]
    return f"  ×{count}" if count > 1 and all(chart.frames[other] != count for other in around) else ""


def _pieces(held: Sequence[str], sheet: Sheet) -> Iterator[list[str]]:
    for column in sorted({sheet.columns[name] for name in held}):
        yield [name for name in held if sheet.columns[name] == column]


def _levels(frame: str, frames: Mapping[str, Sequence[str]]) -> int:
    """Count the frames within one another, from this one inwards."""
    inner = {name: held for name, held in frames.items() if set(held) < set(frames[frame])}
    return 1 + max((_levels(name, inner) for name in inner), default=0)


def room(frames: Mapping[str, Sequence[str]]) -> float:
    """Tell how much room around the boxes the frames take."""
    return _HEADING * max((_levels(frame, frames) for frame in frames), default=0) + 12


def _around(piece: Sequence[str], levels: int, boxes: Mapping[str, Edges], sheet: Sheet) -> Edges:
    points = [
        (x, y, x, y)
        for link, path in sheet.arrangement.paths.items()
        if set(link) <= set(piece) and link not in sheet.crossing
        for x, y in path
    ]
    left, _, right, _ = span([*(boxes[name] for name in piece), *points])
    _, top, _, bottom = span([boxes[name] for name in piece])
    return left - _SIDE * levels, top - _HEADING * levels, right + _SIDE * levels, bottom + _SIDE * levels


def _meet(one: Edges, two: Edges) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
