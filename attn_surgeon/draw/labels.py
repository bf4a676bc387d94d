"""The text on a node of a diagram."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attn_surgeon.draw.diagram import INPUT, OUTPUT, DiagramNode
from attn_surgeon.tables import short_count

_LONG = 24
_PARTS = re.compile(r"(?:\{[^}]*\}|[^.])+")  # dots within braces separate nothing


def short_name(name: str) -> str:
    """Return a name; of a long one the last parts that fit on a node, and two at least."""
    parts = _PARTS.findall(name)
    while len(parts) > 2 and len(".".join(parts)) > _LONG:
        parts = parts[1:]
    kept = ".".join(parts)
    return kept if kept == name else f"….{kept}"


def description(node: DiagramNode) -> list[str]:
    """Return one line with a node's type and parameters, and one with the shape of its output."""
    is_named_so = node.type in ("", node.name.rpartition(".")[2]) or (not node.parameters and node.type in node.name)
    first = [part for part in ("" if is_named_so else node.type, short_count(node.parameters)) if part]
    return [line for line in (" · ".join(first), shapes_text(node.shapes)) if line]


def shapes_text(shapes: Sequence[str]) -> str:
    """Return the first shape, and how many others there are."""
    return "" if not shapes else shapes[0] + (f"  +{len(shapes) - 1}" if len(shapes) > 1 else "")


def shown_groups(node: DiagramNode) -> list[tuple[str, bool]]:
    """Return a node's groups, each with whether it is that of the output: true for it, false for sites inside."""
    if node.name in (INPUT, OUTPUT):
        return []
    inner = [(group, False) for group in node.inner_groups if group != "convs"]
    return [*((group, True) for group in node.groups), *inner]


def graft_text(node: DiagramNode) -> str:
    """Return the description of a node's graft, or how many there are."""
    if len(node.grafts) <= 1:
        return "".join(node.grafts)
    blocks = dict.fromkeys(text.split()[0] for text in node.grafts)
    return f"{', '.join(blocks)}: {len(node.grafts)} grafts"


def tooltip(node: DiagramNode) -> str:
    """Return everything known of a node, one fact per line."""
    facts = {
        "shape": ", ".join(node.shapes),
        "parameters": f"{node.parameters:,}" if node.parameters else "",
        "groups": ", ".join(node.groups),
        "groups inside": ", ".join(node.inner_groups),
        "grafts": ", ".join(node.grafts),
    }
    heading = f"{node.name}: {node.type}" if node.type else node.name
    return "\n".join([heading, *(f"{key}: {fact}" for key, fact in facts.items() if fact)])
