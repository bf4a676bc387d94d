"""Choose where a long diagram is wrapped into columns, because `dot` lays it out as one tall strip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from attn_surgeon.draw.diagram import Diagram, DiagramNode
from attn_surgeon.draw.labels import description, graft_text, shown_groups

_MAX_CROSSING = 2  # edges from one column into another
_PER_CLUSTER, _PER_EDGE = 0.15, 0.15  # cost of a wrap inside a cluster and of a second edge, as fractions of the height


def column_starts(diagram: Diagram, columns: int) -> list[int]:
    """Return the indices of the nodes that begin the further columns, fewer where too many edges would cross."""
    heights = list(accumulate(map(_height, diagram.nodes)))
    crossing = _crossing_edges(diagram)
    possible = [index for index in range(1, len(heights)) if 0 < crossing[index] <= _MAX_CROSSING]
    starts = set()
    for column in range(1, columns):
        ideal = column / columns
        costs = {
            index: abs(heights[index - 1] / heights[-1] - ideal)
            + _PER_CLUSTER * _shared_clusters(diagram.nodes, index)
            + _PER_EDGE * (crossing[index] - 1)
            for index in possible
        }
        if costs:
            starts.add(min(costs, key=costs.__getitem__))
    return sorted(starts)


def _height(node: DiagramNode) -> float:
    """Estimate the height of a node in lines of text, with the gap below it."""
    return 2.5 + len(description(node)) + bool(shown_groups(node)) + bool(graft_text(node))


def _crossing_edges(diagram: Diagram) -> list[int]:
    """Return for every node the number of edges from an earlier node to it or to a later one."""
    order = {node.name: index for index, node in enumerate(diagram.nodes)}
    spans = [sorted((order[edge.source], order[edge.target])) for edge in diagram.edges]
    return [sum(first < index <= last for first, last in spans) for index in range(len(order))]


def _shared_clusters(nodes: Sequence[DiagramNode], index: int) -> int:
    return len(set(nodes[index - 1].clusters) & set(nodes[index].clusters))
