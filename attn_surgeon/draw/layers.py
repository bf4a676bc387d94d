"""Boxes in layers from top to bottom, after Sugiyama, Tagawa and Toda (1981): for where `dot` is not installed.

A box is one layer below the lowest that leads to it; long arrows get a way-point in every layer they cross; the order
in a layer follows the mean place of the neighbours, and so do the x coordinates, as far as the boxes leave room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

import networkx as nx

Point = tuple[float, float]
Size = tuple[float, float]
Link = tuple[str, str]
_WAYPOINT = (14.0, 0.0)
_FRAME = 24.0
_SWEEPS = 12


def by_layers(
    sizes: Mapping[str, Size],
    links: Sequence[Link],
    frames: Mapping[str, Sequence[str]],
    gap: float,
    between: float,
) -> tuple[dict[str, Point], dict[Link, list[Point]]]:
    """Place boxes, whose names come in the order of execution, and the points of the arrows between them."""
    place = {name: index for index, name in enumerate(sizes)}
    forward = [(one, two) if place[one] < place[two] else (two, one) for one, two in links]
    layers = _layers(sizes, forward)
    depth = {name: index for index, layer in enumerate(layers) for name in layer}
    chains = {link: _chain(link, depth) for link in forward}
    for chain in chains.values():
        for name in chain[1:-1]:
            depth[name] = int(name.rpartition("\0")[2])
            layers[depth[name]].append(name)
    boxes = dict(sizes) | {name: _WAYPOINT for layer in layers for name in layer if name not in sizes}
    neighbours = _neighbours(chains)
    _order(layers, neighbours)
    xs = _columns(layers, neighbours, boxes, between)
    ys = _heights(layers, boxes, frames, gap)
    centres = {name: (xs[name], ys[depth[name]]) for name in boxes}
    halves = [max(boxes[name][1] for name in layer) / 2 for layer in layers]
    bands = {name: (ys[depth[name]] - halves[depth[name]], ys[depth[name]] + halves[depth[name]]) for name in boxes}
    paths = {}
    for link, ends in zip(links, forward, strict=True):
        points = _points(chains[ends], centres, sizes, bands)
        paths[link] = points if link == ends else points[::-1]
    return {name: centres[name] for name in sizes}, paths


def _layers(sizes: Mapping[str, Size], links: Sequence[Link]) -> list[list[str]]:
    graph = nx.DiGraph()
    graph.add_nodes_from(sizes)
    graph.add_edges_from(links)
    return [list(layer) for layer in nx.topological_generations(graph)]


def _chain(link: Link, depth: Mapping[str, int]) -> list[str]:
    source, target = link
    between = range(depth[source] + 1, depth[target])
    return [source, *(f"{source}\0{target}\0{layer}" for layer in between), target]


def _neighbours(chains: Mapping[Link, Sequence[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """List what is above and what is below each box and way-point."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for chain in chains.values():
        for one, two in pairwise(chain):
            found.setdefault(one, ([], []))[1].append(two)
            found.setdefault(two, ([], []))[0].append(one)
    return found


def _order(layers: list[list[str]], neighbours: Mapping[str, tuple[list[str], list[str]]]) -> None:
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else reversed(layers):
            spots = {name: index / max(1, len(row) - 1) for row in layers for index, name in enumerate(row)}
            near = {name: neighbours.get(name, ([], []))[0 if downwards else 1] for name in layer}
            means = {name: fmean(spots[other] for other in near[name]) if near[name] else spots[name] for name in layer}
            layer.sort(key=means.__getitem__)


def _columns(
    layers: Sequence[Sequence[str]],
    neighbours: Mapping[str, tuple[list[str], list[str]]],
    boxes: Mapping[str, Size],
    between: float,
) -> dict[str, float]:
    xs: dict[str, float] = {}
    for layer in layers:
        _spread(layer, dict.fromkeys(layer, 0.0), boxes, between, xs)
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = {}
            for name in layer:
                above, below = neighbours.get(name, ([], []))
                near = [xs[other] for other in (*above, *below)]
                wanted[name] = fmean(near) if near else xs[name]
            _spread(layer, wanted, boxes, between, xs)
    return xs


def _spread(
    layer: Sequence[str], wanted: Mapping[str, float], boxes: Mapping[str, Size], between: float, xs: dict[str, float]
) -> None:
    """Place a layer's boxes as near as can be to where they want to be, in order and without overlaps.

    Boxes that push one another form a block, which takes the mean of what its boxes want.
    """
    offset, offsets = 0.0, {}
    for index, name in enumerate(layer):
        if index:
            offset += (boxes[layer[index - 1]][0] + boxes[name][0]) / 2 + between
        offsets[name] = offset
    blocks: list[tuple[list[str], float]] = []
    for name in layer:
        block, mean = [name], wanted[name] - offsets[name]
        while blocks and blocks[-1][1] >= mean:
            block = blocks.pop()[0] + block
            mean = fmean(wanted[one] - offsets[one] for one in block)
        blocks.append((block, mean))
    for block, mean in blocks:
        for name in block:
            xs[name] = mean + offsets[name]


def _heights(
    layers: Sequence[Sequence[str]], boxes: Mapping[str, Size], frames: Mapping[str, Sequence[str]], gap: float
) -> list[float]:
    """Give each layer's y, with room for the headings of the frames that begin there."""
    index = {name: place for place, layer in enumerate(layers) for name in layer}
    begins = [min(index[name] for name in held) for held in frames.values()]
    ends = [max(index[name] for name in held) for held in frames.values()]
    ys, y = [], 0.0
    for place, layer in enumerate(layers):
        height = max(boxes[name][1] for name in layer)
        y += _FRAME * begins.count(place) + height / 2
        ys.append(y)
        y += height / 2 + gap + _FRAME / 2 * ends.count(place)
    return ys


def _points(
    chain: Sequence[str], centres: Mapping[str, Point], sizes: Mapping[str, Size], bands: Mapping[str, Point]
) -> list[Point]:
    """Go upright through the layers, so that an arrow turns only where no box is."""
    (x1, y1), (x2, y2) = centres[chain[0]], centres[chain[-1]]
    points = [(x1, y1 + sizes[chain[0]][1] / 2), (x1, bands[chain[0]][1])]
    for name in chain[1:-1]:
        points += [(centres[name][0], edge) for edge in bands[name]]
    return list(dict.fromkeys([*points, (x2, bands[chain[-1]][0]), (x2, y2 - sizes[chain[-1]][1] / 2)]))
