"""A long strip of boxes cut into columns, so that the picture has the form of a screen and its text can be read.

It is cut where few arrows pass. Those go out to the space on the right of their column, up, and over the heads of
the columns to their target, each in a lane of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from attn_surgeon.draw.arrange import Arrangement, Link, Point, Size

Edges = tuple[float, float, float, float]
_SCREEN = (1600.0, 1000.0)
_CUTS = 3
_TRIED = 24
_ARROWS = 5
_LANE, _TURN, _CLEAR = 12.0, 20.0, 6.0
_PER_CUT, _PER_FRAME, _PER_ARROW = 0.93, 0.85, 0.97  # what is cut costs a factor on the size of the text


@dataclass(frozen=True)
class Sheet:
    """An arrangement in columns: which column each box is in, and the arrows that go from one to another."""

    arrangement: Arrangement
    columns: Mapping[str, int]
    crossing: frozenset[Link]


@dataclass(frozen=True)
class _Strip:
    """An arrangement before it is cut."""

    boxes: Mapping[str, Edges]
    links: Sequence[Link]
    frames: Sequence[Sequence[str]]
    margin: float

    def columns(self, cuts: Sequence[float]) -> dict[str, int]:
        return {name: sum(cut < box[1] for cut in cuts) for name, box in self.boxes.items()}

    def passing(self, y: float) -> list[Link]:
        return [link for link in self.links if (self.boxes[link[0]][1] < y) != (self.boxes[link[1]][1] < y)]


def in_columns(
    arrangement: Arrangement, sizes: Mapping[str, Size], frames: Mapping[str, Sequence[str]], margin: float
) -> Sheet:
    """Cut an arrangement into the columns that make its text largest on a screen."""
    boxes = {name: edges(arrangement.centres[name], sizes[name]) for name in sizes}
    strip = _Strip(boxes, list(arrangement.paths), list(frames.values()), margin)
    possible = _fewer(strip, list(_possible(strip)))
    choices = [cuts for count in range(_CUTS + 1) for cuts in combinations(possible, count)]
    columns = strip.columns(max(choices, key=lambda cuts: _worth(strip, cuts)))
    crossing = frozenset(link for link in strip.links if columns[link[0]] != columns[link[1]])
    return Sheet(_moved(arrangement, strip, columns, crossing), columns, crossing)


def edges(centre: Point, size: Size) -> Edges:
    """Give left, top, right and bottom of a box."""
    (x, y), (width, height) = centre, size
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _possible(strip: _Strip) -> Iterator[float]:
    """List the heights at which no box is cut, and every arrow can be led around."""
    for top in sorted({box[1] for box in strip.boxes.values()})[1:]:
        y = top - 1
        through = strip.passing(y)
        whole = not any(box[1] < y < box[3] for box in strip.boxes.values())
        downwards = all(strip.boxes[one][1] < y for one, _ in through)
        if whole and downwards and 0 < len(through) <= _ARROWS and all(_can_turn(strip, link, y) for link in through):
            yield y


def _fewer(strip: _Strip, possible: list[float]) -> list[float]:
    """Keep so many heights that all choices of them can be tried: those that cut the fewest frames, spread evenly."""
    split = {y: sum(len({strip.boxes[name][1] < y for name in held}) - 1 for held in strip.frames) for y in possible}
    levels = sorted(set(split.values()))
    kept = [y for y in possible if levels and split[y] == levels[0]]
    for level in levels[1:]:
        if len(kept) + sum(split[y] == level for y in possible) <= _TRIED:
            kept += [y for y in possible if split[y] == level]
    step = max(1, -(-len(kept) // _TRIED))
    return sorted(kept)[::step]


def _can_turn(strip: _Strip, link: Link, y: float) -> bool:
    """Say whether an arrow can leave its column and come in from above without meeting a box."""
    target = strip.boxes[link[1]]
    x = _middle(target)
    above = [box for name, box in strip.boxes.items() if y < box[1] < target[1] and name != link[1]]
    free_above = not any(box[0] - _CLEAR < x < box[2] + _CLEAR for box in above)
    return free_above and (_free_below(strip, link[0], y) or _free_right(strip, link[0]))


def _free_below(strip: _Strip, name: str, y: float) -> bool:
    own = strip.boxes[name]
    below = [box for box in strip.boxes.values() if own[1] < box[1] < y]
    return not any(box[0] - _CLEAR < _middle(own) < box[2] + _CLEAR for box in below)


def _free_right(strip: _Strip, name: str) -> bool:
    own = strip.boxes[name]
    y = (own[1] + own[3]) / 2
    return not any(box[0] > own[2] and box[1] - _CLEAR < y < box[3] + _CLEAR for box in strip.boxes.values())


def _middle(box: Edges) -> float:
    return (box[0] + box[2]) / 2


def _worth(strip: _Strip, cuts: Sequence[float]) -> float:
    """Tell how large the text would be on a screen, less something for what is cut."""
    columns = strip.columns(cuts)
    spans = [
        span([box for name, box in strip.boxes.items() if columns[name] == column]) for column in range(len(cuts) + 1)
    ]
    crossing = sum(columns[one] != columns[two] for one, two in strip.links)
    width = sum(span[2] - span[0] + 2 * strip.margin for span in spans) + _LANE * crossing + 2 * _TURN * len(cuts)
    height = max(span[3] - span[1] for span in spans) + 2 * strip.margin
    split = sum(len({columns[name] for name in held}) - 1 for held in strip.frames)
    scale = min(_SCREEN[0] / width, _SCREEN[1] / height, 1.0)
    return scale * _PER_CUT ** len(cuts) * _PER_FRAME**split * _PER_ARROW**crossing


def span(boxes: Sequence[Edges]) -> Edges:
    """Give the edges of what holds all the boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _moved(
    arrangement: Arrangement, strip: _Strip, columns: Mapping[str, int], crossing: frozenset[Link]
) -> Arrangement:
    lanes = [link for link in strip.links if link in crossing]
    shifts, gutters = _shifts(arrangement, strip, columns, lanes)
    centres = {name: _shifted(point, shifts[columns[name]]) for name, point in arrangement.centres.items()}
    paths: dict[Link, Sequence[Point]] = {}
    for link, points in arrangement.paths.items():
        column = columns[link[0]]
        if link not in crossing:
            paths[link] = [_shifted(point, shifts[column]) for point in points]
            continue
        one, two = (_placed(strip.boxes[end], shifts[columns[end]]) for end in link)
        lane = [other for other in lanes if columns[other[0]] == column].index(link)
        end = max(box[3] for name, box in strip.boxes.items() if columns[name] == column)
        foot = end + shifts[column][1] + strip.margin + _TURN if _free_below(strip, link[0], end) else None
        rise = strip.margin + _TURN + _LANE * (len(lanes) - 1 - lanes.index(link))
        paths[link] = _around(one, two, gutters[column] + _LANE * lane, -rise, foot and foot + _LANE * lane)
    return Arrangement(centres, paths, arrangement.curved)


def _shifts(
    arrangement: Arrangement, strip: _Strip, columns: Mapping[str, int], lanes: Sequence[Link]
) -> tuple[list[Point], list[float]]:
    """Tell how far each column moves, and where the space on its right begins."""
    shifts, gutters, x = [], [], 0.0
    for column in range(max(columns.values()) + 1):
        inside = [path for link, path in arrangement.paths.items() if link not in lanes and columns[link[0]] == column]
        held = [box for name, box in strip.boxes.items() if columns[name] == column]
        left, _, right, _ = span([*held, *((px, py, px, py) for path in inside for px, py in path)])
        shifts.append((x - left, -span(held)[1]))
        gutters.append(x + right - left + strip.margin + _TURN)
        leaving = sum(columns[source] == column for source, _ in lanes)
        x += right - left + 2 * (strip.margin + _TURN) + _LANE * max(0, leaving - 1)
    return shifts, gutters


def _shifted(point: Point, shift: Point) -> Point:
    return point[0] + shift[0], point[1] + shift[1]


def _placed(box: Edges, shift: Point) -> Edges:
    return box[0] + shift[0], box[1] + shift[1], box[2] + shift[0], box[3] + shift[1]


def _around(source: Edges, target: Edges, x: float, head: float, foot: float | None) -> list[Point]:
    """Leave a box at its foot, or at its side, and come to another from above."""
    middle = (source[1] + source[3]) / 2
    out = [(source[2], middle), (x, middle)]
    if foot is not None:
        out = [(_middle(source), source[3]), (_middle(source), foot), (x, foot)]
    return [*out, (x, head), (_middle(target), head), (_middle(target), target[1])]
