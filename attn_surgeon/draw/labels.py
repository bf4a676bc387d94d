"""The texts on the nodes of a diagram: names, shapes, groups, grafts and tooltips."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attn_surgeon.draw.diagram import INPUT, OUTPUT, DiagramNode
from attn_surgeon.tables import short_count

_MAX_LENGTH = 24
_PARTS = re.compile(r"(?:\{[^}]*\}|[^.])+")  # the dots in `{1..5}` separate no parts


def short_name(name: str) -> str:
    """Return a name, shortened to its last parts, at least two, where it is too long for a node."""
    parts = _PARTS.findall(name)
    while len(parts) > 2 and len(".".join(parts)) > _MAX_LENGTH:
        parts = parts[1:]
    kept = ".".join(parts)
    return kept if kept == name else f"….{kept}"


def description(node: DiagramNode) -> list[str]:
    """Return a line with the type and parameters of a node, and one with the shapes of its outputs."""
    is_in_name = node.type in ("", node.name.rpartition(".")[2]) or (not node.parameters and node.type in node.name)
    first = [part for part in ("" if is_in_name else node.type, short_count(node.parameters)) if part]
    return [line for line in (" · ".join(first), shapes_text(node.shapes)) if line]


def shapes_text(shapes: Sequence[str]) -> str:
    """Return the first shape and the number of further ones, such as `1×64×8×8  +2`."""
    return "" if not shapes else shapes[0] + (f"  +{len(shapes) - 1}" if len(shapes) > 1 else "")


def shown_groups(node: DiagramNode) -> list[tuple[str, bool]]:
    """Return the groups of a node, each with whether it is at the output (True) or inside (False)."""
    if node.name in (INPUT, OUTPUT):
        return []
    inner = [(group, False) for group in node.inner_groups if group != "convs"]
    return [*((group, True) for group in node.groups), *inner]


def graft_text(node: DiagramNode) -> str:
    """Return the description of the graft of a node or, for several, their blocks and number."""
    if len(node.grafts) <= 1:
        return "".join(node.grafts)
    blocks = dict.fromkeys(text.split()[0] for text in node.grafts)
    return f"{', '.join(blocks)}: {len(node.grafts)} grafts"


def tooltip(node: DiagramNode) -> str:
    """Return the tooltip of a node: its name, type, shapes, parameters, groups and grafts, one per line."""
    facts = {
        "shape": ", ".join(node.shapes),
        "parameters": f"{node.parameters:,}" if node.parameters else "",
        "groups": ", ".join(node.groups),
        "groups inside": ", ".join(node.inner_groups),
        "grafts": ", ".join(node.grafts),
    }
    heading = f"{node.name}: {node.type}" if node.type else node.name
    return "\n".join([heading, *(f"{key}: {fact}" for key, fact in facts.items() if fact)])
