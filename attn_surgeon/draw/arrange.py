"""Where boxes and arrows go: by graphviz' `dot` where it is installed, by layers of our own where it is not.

Either gives the same kind of arrangement, which is then cut into columns where it would be a long thin strip.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Size = tuple[float, float]
Link = tuple[str, str]
_GAP, _BETWEEN = 36.0, 28.0
_INCH = 72.0


@dataclass(frozen=True)
class Arrangement:
    """Centres of boxes and the points that arrows go through, in pixels, y downwards.

    `curved` says whether an arrow's points are those of Bézier curves, as dot gives them.
    """

    centres: Mapping[str, Point]
    paths: Mapping[Link, Sequence[Point]]
    curved: bool


def arrange(
    sizes: Mapping[str, Size], links: Sequence[Link], frames: Mapping[str, Sequence[str]], *, use_dot: bool = True
) -> Arrangement:
    """Find a place for every box; `sizes` come in the order of execution, `frames` name the boxes they hold."""
    dot = shutil.which("dot") if use_dot else None
    made = _by_dot(dot, sizes, links, frames) if dot else None
    if made is None:
        from attn_surgeon.draw.layers import by_layers

        centres, paths = by_layers(sizes, links, frames, _GAP, _BETWEEN)
        made = Arrangement(centres, paths, curved=False)
    return made


def _by_dot(
    dot: str, sizes: Mapping[str, Size], links: Sequence[Link], frames: Mapping[str, Sequence[str]]
) -> Arrangement | None:
    """Ask dot; None where it cannot do it."""
    names = list(sizes)
    text = _dot_text(names, sizes, links, frames)
    done = subprocess.run([dot, "-Tplain"], input=text, capture_output=True, text=True, encoding="utf-8", check=False)
    return _read_plain(done.stdout, names) if done.returncode == 0 else None


def _dot_text(
    names: Sequence[str], sizes: Mapping[str, Size], links: Sequence[Link], frames: Mapping[str, Sequence[str]]
) -> str:
    ids = {name: f"n{index}" for index, name in enumerate(names)}
    lines = ["digraph {", f"graph [nodesep={_BETWEEN / _INCH:.3f} ranksep={_GAP / _INCH:.3f}]"]
    lines += ['node [shape=box fixedsize=true label=""] edge [arrowhead=none]']
    for name, (width, height) in sizes.items():
        lines.append(f"{ids[name]} [width={width / _INCH:.3f} height={height / _INCH:.3f}]")
    for index, frame in enumerate(outermost(frames)):
        lines += _cluster(frame, index, frames, ids)
    for source, target in links:
        lines.append(f"{ids[source]} -> {ids[target]}")
    return "\n".join([*lines, "}"])


def _cluster(frame: str, index: object, frames: Mapping[str, Sequence[str]], ids: Mapping[str, str]) -> list[str]:
    inner = [other for other in frames if other != frame and set(frames[other]) < set(frames[frame])]
    direct = outermost({name: frames[name] for name in inner})
    lines = [f"subgraph cluster_{index} {{ margin=16 label=x fontsize=14"]
    for number, child in enumerate(direct):
        lines += _cluster(child, f"{index}_{number}", {name: frames[name] for name in inner}, ids)
    return [*lines, " ".join(ids[name] for name in frames[frame]), "}"]


def outermost(frames: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the frames that are in no other."""
    return [name for name in frames if not any(set(frames[name]) < set(other) for other in frames.values())]


def _read_plain(text: str, names: Sequence[str]) -> Arrangement:
    centres: dict[str, Point] = {}
    paths: dict[Link, Sequence[Point]] = {}
    height = 0.0
    for line in text.splitlines():
        kind, *words = line.split()
        if kind == "graph":
            height = float(words[2])
        elif kind == "node":
            centres[names[int(words[0][1:])]] = _pixels(words[1], words[2], height)
        elif kind == "edge":
            ends = (names[int(words[0][1:])], names[int(words[1][1:])])
            numbers = words[3 : 3 + 2 * int(words[2])]
            paths[ends] = [_pixels(x, y, height) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    return Arrangement(centres, paths, curved=True)


def _pixels(x: str, y: str, height: float) -> Point:
    return float(x) * _INCH, (height - float(y)) * _INCH
