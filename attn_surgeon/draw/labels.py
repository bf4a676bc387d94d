"""The words on a box."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attn_surgeon.draw.chart import INPUT, OUTPUT, Box
from attn_surgeon.tables import short_count

_LONG = 24
_PARTS = re.compile(r"(?:\{[^}]*\}|[^.])+")  # dots within braces part nothing


def label(box: Box) -> str:
    """Give a box's name; of a long one as many parts, from its end, as a box has room for, and two at least."""
    parts = _PARTS.findall(box.name)
    while len(parts) > 2 and len(".".join(parts)) > _LONG:
        parts = parts[1:]
    name = ".".join(parts)
    return name if name == box.name else f"….{name}"


def about(box: Box) -> list[str]:
    """Tell what a box is and what comes out of it."""
    parameters = short_count(box.parameters)
    plain = box.type in ("", box.name.rpartition(".")[2]) or (not box.parameters and box.type in box.name)
    first = "" if plain else box.type
    first = " · ".join(part for part in (first, parameters) if part)
    return [line for line in (first, shape_text(box.shapes)) if line]


def shape_text(shapes: Sequence[str]) -> str:
    """Write one shape, and how many others there are."""
    return "" if not shapes else shapes[0] + (f"  +{len(shapes) - 1}" if len(shapes) > 1 else "")


def pills(box: Box) -> list[tuple[str, bool]]:
    """List a box's groups: those of the site itself, then those of the sites inside it."""
    if box.name in (INPUT, OUTPUT):
        return []
    return [(group, True) for group in box.groups] + [(group, False) for group in box.inner if group != "convs"]


def badge(box: Box) -> str:
    """Name a box's graft, or how many there are."""
    if len(box.grafts) <= 1:
        return "".join(box.grafts)
    blocks = dict.fromkeys(text.split()[0] for text in box.grafts)
    return f"{', '.join(blocks)}: {len(box.grafts)} grafts"
