"""Write a diagram as DOT, the language of Graphviz: modules as nested clusters, labels in HTML, grafts highlighted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise

from attn_surgeon.draw.diagram import INPUT, OUTPUT, Diagram, DiagramEdge, DiagramNode
from attn_surgeon.draw.group_colours import GRAFT, GROUP_COLOURS, colour, word
from attn_surgeon.draw.labels import description, graft_text, shapes_text, short_name, shown_groups, tooltip

FONT = "Menlo" if sys.platform == "darwin" else "DejaVu Sans Mono"
_INK, _FAINT, _EDGE, _REPEATS = "#17202c", "#5d6b7c", "#8494a7", "#0b6e8a"
_CLUSTER = 'style="rounded,filled,dashed" color="#a9b6c6" fillcolor="#55708f12" margin=10'
_CONNECTOR = f'class=connector shape=plain style="" fontsize=10 fontcolor="{_FAINT}"'
_END, _MODULE, _FUNCTION = "#2b3a4d", "#e6eef8", "#fbfaf5"
_DEFAULTS = f"""\
graph [fontname="{FONT}" fontsize=11 fontcolor="{_FAINT}" labelloc=t labeljust=l nodesep=0.3 ranksep=0.4 pad=0.2]
node [fontname="{FONT}" shape=box style=filled margin=0]
edge [fontname="{FONT}" fontsize=10 fontcolor="{_FAINT}" color="{_EDGE}" arrowsize=0.7]"""


def to_dot(diagram: Diagram, starts: Sequence[int] = ()) -> str:
    """Return the DOT text of a diagram; a further column begins at each of the node indices in `starts`."""
    labels, sources = cluster_labels(diagram), {node.name: node for node in diagram.nodes}
    columns = [diagram.nodes[first:last] for first, last in pairwise([0, *starts, len(diagram.nodes)])]
    column_of = {node.name: column for column, nodes in enumerate(columns) for node in nodes}
    lines = ["digraph network {", _DEFAULTS]
    for column, nodes in enumerate(columns):
        lines += [f"subgraph cluster_{column} {{ style=invis", *_nested(nodes, labels, 0, f"{column}"), "}"]
    for edge in diagram.edges:
        first, last = column_of[edge.source], column_of[edge.target]
        lines += [_edge(edge, sources[edge.source])] if first == last else _connectors(edge, first, last)
    # Last, because subgraphs inherit attributes that are set before them.
    return "\n".join([*lines, f"label=<{_heading(diagram)}>", "}\n"])


def cluster_labels(diagram: Diagram) -> dict[str, str]:
    """Return the labels of the clusters to draw, by name.

    Of several clusters around the same nodes, only the innermost is drawn; a cluster around a single node is drawn only
    where it is repeated. The `×N` of a cluster that represents N modules is only on the outermost one with that N.
    """
    members = {name: [node.name for node in diagram.nodes if name in node.clusters] for name in diagram.clusters}
    labels: dict[str, str] = {}
    for index, (name, nodes) in enumerate(members.items()):
        repeats = diagram.clusters[name]
        has_same_inside = nodes in list(members.values())[index + 1 :]
        if has_same_inside or (len(nodes) == 1 and repeats == 1):
            continue
        outer = [other for other in labels if set(nodes) <= set(members[other])]
        is_labelled = any(diagram.clusters[other] == repeats for other in outer)
        labels[name] = f"{name}  ×{repeats}" if repeats > 1 and not is_labelled else name
    return labels


def _nested(nodes: Sequence[DiagramNode], labels: Mapping[str, str], depth: int, prefix: str) -> Iterator[str]:
    """Yield the lines of nodes; those that share a cluster at `depth` are in a subgraph."""
    members: dict[str, list[DiagramNode]] = {}
    for node in nodes:
        around = [name for name in node.clusters if name in labels]
        members.setdefault(around[depth] if len(around) > depth else "", []).append(node)
    yield from map(_node, members.pop("", []))
    for index, (name, inside) in enumerate(members.items()):
        yield f"subgraph cluster_{prefix}_{index} {{ label=<{escape(labels[name])}> {_CLUSTER}"
        yield from _nested(inside, labels, depth + 1, f"{prefix}_{index}")
        yield "}"


def _node(node: DiagramNode) -> str:
    is_end, graft = node.name in (INPUT, OUTPUT), graft_text(node)
    fill = _END if is_end else _MODULE if node.parameters else _FUNCTION
    ink, faint = ("white", "white") if is_end else (_INK, _FAINT)
    is_repeated = node.repeats > 1 and node.name.endswith("}")
    repeats = _font(f"  ×{node.repeats}", _REPEATS, 14) if is_repeated else ""
    rows = [_font(short_name(node.name), ink, 14, bold=True) + repeats]
    rows += [_font(line, faint, 11) for line in description(node)]
    if groups := shown_groups(node):
        rows.append("  ".join(_font(f"{'●' if own else '○'} {word(name)}", colour(name), 10) for name, own in groups))
    cells = [f'<td align="left">{row}</td>' for row in rows]
    if graft:
        cells.append(f'<td align="left" bgcolor="{GRAFT}">{_font(graft, "white", 11, bold=True)}</td>')
    table = "".join(f"<tr>{cell}</tr>" for cell in cells)
    label = f'<table border="0" cellspacing="0" cellpadding="3">{table}</table>'
    border = f'color="{GRAFT}" penwidth=2' if graft else f'color="{_EDGE}"'
    stacked = " peripheries=2" if is_repeated else ""
    return (
        f'{_quoted(node.name)} [label=<{label}> fillcolor="{fill}" {border}{stacked} tooltip={_quoted(tooltip(node))}]'
    )


def _edge(edge: DiagramEdge, source: DiagramNode) -> str:
    """Return the line of an edge, labelled with the shape where that differs from the shape on its source."""
    shape = "" if set(edge.shapes) == set(source.shapes) else f" label={_quoted('  ' + shapes_text(edge.shapes))}"
    tip = _quoted(f"{edge.source} → {edge.target}: {', '.join(edge.shapes)}")
    return f"{_quoted(edge.source)} -> {_quoted(edge.target)} [tailport=s headport=n tooltip={tip}{shape}]"


def _connectors(edge: DiagramEdge, first: int, last: int) -> Iterator[str]:
    """Yield the lines of an edge between columns: a connector in each, with the name of the node at the other end."""
    tip = f"{edge.source} → {edge.target}: {', '.join(edge.shapes)}"
    for text, column in ((f"to {short_name(edge.target)}", first), (f"from {short_name(edge.source)}", last)):
        connector = _quoted(f"{tip} {text}")
        ends = (_quoted(edge.source), connector) if column == first else (connector, _quoted(edge.target))
        yield f"subgraph cluster_{column} {{ {connector} [label={_quoted(text)} {_CONNECTOR} tooltip={_quoted(tip)}] }}"
        yield f"{' -> '.join(ends)} [tailport=s headport=n style=dashed tooltip={_quoted(tip)}]"


def _heading(diagram: Diagram) -> str:
    """Return the label of the graph: the title and the legend of the colours."""
    shown = {name for node in diagram.nodes for name, _ in shown_groups(node)}
    entries = [(f"● {name}", colour(name)) for name in GROUP_COLOURS if name in shown]
    if any(node.grafts for node in diagram.nodes):
        entries.append(("■ graft", GRAFT))
    legend = [_font(text, ink, 11) for text, ink in entries]
    legend += [_font("● at the output  ○ inside", _FAINT, 11)] if shown else []
    rows = [_font(diagram.title, _INK, 16, bold=True), "   ".join(legend)]
    cells = "".join(f'<tr><td align="left">{row}</td></tr>' for row in rows if row)
    return f'<table border="0" cellspacing="0" cellpadding="4">{cells}</table>'


def _font(text: str, ink: str, size: int, *, bold: bool = False) -> str:
    inner = f"<b>{escape(text)}</b>" if bold else escape(text)
    return f'<font color="{ink}" point-size="{size}">{inner}</font>'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
