"""The directed graph that is drawn: nodes, edges, and clusters, which are the modules around nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

INPUT, OUTPUT, OWN_CODE = "input", "output", "own code"


@dataclass(frozen=True)
class DiagramNode:
    """A module, a function, or several repeated modules drawn as one.

    Args:
        name: its path, or a selector of the paths.
        type: the class or function.
        shapes: the shapes of its outputs.
        clusters: the names of the clusters around it, the outermost first.
        parameters: the number of parameters.
        repeats: the number of modules that it represents.
        groups: the groups of the site at its output.
        inner_groups: the groups of the sites inside it.
        grafts: descriptions of the grafts at its output and inside it.
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
    """The tensors that one node computed and another one takes."""

    source: str
    target: str
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagram:
    """Nodes in execution order, edges, and clusters with the number of repeated modules that each represents."""

    title: str
    nodes: tuple[DiagramNode, ...]
    edges: tuple[DiagramEdge, ...]
    clusters: Mapping[str, int]


def without_isolated(diagram: Diagram) -> Diagram:
    """Return a diagram without the nodes that have no edge, such as constants."""
    connected = {INPUT, OUTPUT} | {end for edge in diagram.edges for end in (edge.source, edge.target)}
    return replace(diagram, nodes=tuple(node for node in diagram.nodes if node.name in connected))
