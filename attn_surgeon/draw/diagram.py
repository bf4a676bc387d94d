"""A network as a directed graph to draw: nodes, the edges between them, and the clusters of nodes of one module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

INPUT, OUTPUT, OWN_CODE = "input", "output", "own code"


@dataclass(frozen=True)
class DiagramNode:
    """A module, a function, or `repeats` modules built alike, and what comes out of it.

    `clusters` are the opened modules around it, outermost first. `groups` are those of the site at its output,
    `inner_groups` those of the sites inside it; `grafts` are those of both.
    """

    name: str
    type: str
    shapes: tuple[str, ...]
    clusters: tuple[str, ...] = ()
    parameters: int = 0
    repeats: int = 1
    groups: tuple[str, ...] = ()
    inner_groups: tuple[str, ...] = ()
    grafts: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiagramEdge:
    """The tensors that one node made and another one uses."""

    source: str
    target: str
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagram:
    """Nodes in the order of execution, edges, and clusters with how many modules built alike each stands for."""

    title: str
    nodes: tuple[DiagramNode, ...]
    edges: tuple[DiagramEdge, ...]
    clusters: Mapping[str, int]


def without_isolated(diagram: Diagram) -> Diagram:
    """Return the diagram without nodes that have no edge, such as constants."""
    joined = {INPUT, OUTPUT} | {end for edge in diagram.edges for end in (edge.source, edge.target)}
    return replace(diagram, nodes=tuple(node for node in diagram.nodes if node.name in joined))
