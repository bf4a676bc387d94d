"""Pictures: what the DOT text says, what Graphviz makes of it, and files that are whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pygraphviz
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from attn_surgeon import optional_dependencies
from attn_surgeon.draw import graphviz, picture
from attn_surgeon.draw.diagram import Diagram, DiagramEdge, DiagramNode
from attn_surgeon.draw.dot import to_dot
from attn_surgeon.draw.group_colours import GRAFT, GROUP_COLOURS
from attn_surgeon.draw.wrapping import column_starts
from attn_surgeon.errors import ArtefactError, SurgeonError
from attn_surgeon.surgery.sites.groups import GROUPS
from attn_surgeon.surgery.sites.survey import Survey, survey

SVG = "{http://www.w3.org/2000/svg}"
LETTER = 14 * 1233 / 2048  # points: the width of a letter of DejaVu Sans Mono in the size of a node's name


@pytest.fixture(scope="module")
def surveyed() -> Survey:
    return survey(resnet18(weights=None).eval(), torch.randn(1, 3, 64, 64))


def node(name: str, *clusters: str, **facts: Any) -> DiagramNode:
    return DiagramNode(name, facts.pop("type", ""), facts.pop("shapes", ("1×8",)), clusters, **facts)


def chain(*nodes: DiagramNode, title: str = "a chain", clusters: Mapping[str, int] | None = None) -> Diagram:
    edges = tuple(DiagramEdge(one.name, two.name, one.shapes) for one, two in pairwise(nodes))
    return Diagram(title, nodes, edges, clusters or {})


def tree_of(graph: Any) -> dict[str, Any]:
    """Read the visible clusters of a DOT graph, by their labels, and the nodes that are directly in each."""
    found: dict[str, Any] = {}
    nodes = set(graph.nodes())
    for inner in graph.subgraphs():
        nodes -= set(inner.nodes())
        inside = tree_of(inner)
        found |= inside if inner.graph_attr["style"] == "invis" else {inner.graph_attr["label"].strip("<>"): inside}
    return found | {name: {} for name in nodes}


def drawing(diagram: Diagram, starts: Sequence[int] = ()) -> dict[str, ElementTree.Element]:
    """Render a diagram, and find its nodes in the SVG by their names."""
    root = ElementTree.fromstring(graphviz.render(to_dot(diagram, starts), "svg"))
    nodes = [group for group in root.iter(f"{SVG}g") if (group.get("class") or "").startswith("node")]
    return {group.findtext(f"{SVG}title", ""): group for group in nodes}


def texts(element: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()).strip().replace("\N{NO-BREAK SPACE}", " ") for text in element.iter(f"{SVG}text")]


def outline_of(element: ElementTree.Element) -> tuple[str, float]:
    """Read the colour of a node's border, and its width."""
    polygon = next(element.iter(f"{SVG}polygon"))
    xs = [float(point.partition(",")[0]) for point in (polygon.get("points") or "").split()]
    return polygon.get("stroke") or "", max(xs) - min(xs)


def test_clusters_are_nested_and_redundant_ones_omitted() -> None:
    made = chain(
        node("a"), node("b.0.x", "b", "b.{0..3}"), node("b.0.y", "b", "b.{0..3}"), node("c.0", "c"),
        node("d.e.0", "d", "d.e"), node("d.e.1", "d", "d.e"), node("d.f", "d"),
        clusters={"b": 1, "b.{0..3}": 4, "c": 1, "d": 1, "d.e": 1},
    )  # fmt: skip
    assert tree_of(pygraphviz.AGraph(string=to_dot(made))) == {
        "a": {},
        "b.{0..3}  ×4": {"b.0.x": {}, "b.0.y": {}},
        "c.0": {},
        "d": {"d.e": {"d.e.0": {}, "d.e.1": {}}, "d.f": {}},
    }


def test_the_repeat_count_of_clusters_is_labelled_on_the_outermost() -> None:
    nodes = (node("x", "b", "b.c"), node("y", "b", "b.c"), node("z", "b"), node("w", "b", "b.d"))
    made = chain(*nodes, clusters={"b": 3, "b.c": 3, "b.d": 6})
    assert tree_of(pygraphviz.AGraph(string=to_dot(made))) == {
        "b  ×3": {"b.c": {"x": {}, "y": {}}, "z": {}, "b.d  ×6": {"w": {}}},
    }


def test_a_node_shows_its_name_and_type() -> None:
    shown = drawing(chain(node("input"), node("layer1.{0..2}", type="Block", parameters=1_234_567, repeats=3,
                                              groups=("stages",), inner_groups=("residual", "convs"))))  # fmt: skip
    assert texts(shown["input"]) == ["input", "1×8"]
    assert texts(shown["layer1.{0..2}"]) == [
        "layer1.{0..2}", "×3", "Block · 1.2M", "1×8", "● stage", "", "○ residual",
    ]  # fmt: skip


def test_grafts_are_highlighted() -> None:
    shown = drawing(
        chain(node("a"), node("b", grafts=("cbam after",)), node("c", grafts=("se after c.0", "se after c.1")))
    )
    assert [outline_of(shown[name])[0] == GRAFT for name in "abc"] == [False, True, True]
    assert [texts(shown[name])[-1] for name in "abc"] == ["1×8", "cbam after", "se: 2 grafts"]


def test_any_name_and_title_is_drawn() -> None:
    names = ["<b>", 'a"b', "c:0", "d & e"]
    shown = drawing(chain(*map(node, names), title='C:\\nets.py "of" <me> & you'))
    assert list(shown) == names
    assert [texts(shown[name])[0] for name in names] == names


def test_nodes_are_as_wide_as_their_names_in_a_font_of_known_width() -> None:
    shown = drawing(chain(node("a" * 4), node("a" * 20), node("a" * 24)))
    widths = [outline_of(element)[1] for element in shown.values()]
    assert widths[2] - widths[1] == pytest.approx(4 * LETTER, abs=1)


def test_shapes_label_edges_where_they_differ_from_those_of_the_source() -> None:
    edges = (DiagramEdge("a", "b", ("1×8",)), DiagramEdge("b", "c", ("1×4", "1×2")))
    graph = pygraphviz.AGraph(string=to_dot(Diagram("shapes", (node("a"), node("b"), node("c")), edges, {})))
    assert [graph.get_edge(*ends).attr["label"] or "" for ends in ("ab", "bc")] == ["", "  1×4  +1"]


def test_a_long_chain_is_wrapped_evenly() -> None:
    made = chain(*(node(f"n{index}") for index in range(24)))
    assert [column_starts(made, columns) for columns in (1, 2, 3)] == [[], [12], [8, 16]]


def test_a_diagram_is_not_wrapped_through_a_cluster_nor_where_many_edges_pass() -> None:
    names = [f"n{index}" for index in range(12)]
    nodes = [node(name, *(["c"] if 5 <= index <= 7 else [])) for index, name in enumerate(names)]
    assert column_starts(chain(*nodes, clusters={"c": 1}), 2) == [5]
    made = chain(*map(node, names))
    long = tuple(DiagramEdge(names[first], names[last]) for first, last in ((0, 9), (1, 10), (2, 10)))
    assert column_starts(Diagram("", made.nodes, made.edges + long, {}), 2) == [11]


def test_an_edge_into_another_column_ends_at_connectors() -> None:
    made = chain(*(node(f"n{index}") for index in range(4)))
    graph = pygraphviz.AGraph(string=to_dot(made, [2]))
    assert not graph.has_edge("n1", "n2")
    (there,), (back,) = graph.successors("n1"), graph.predecessors("n2")
    assert (there.attr["label"], back.attr["label"]) == ("to n2", "from n1")
    assert [set(column.nodes()) for column in graph.subgraphs()] == [{"n0", "n1", there}, {"n2", "n3", back}]


def test_a_picture_takes_the_columns_that_fit_a_screen() -> None:
    long, short = (chain(*(node(f"n{index}") for index in range(count))) for count in (24, 4))
    assert graphviz.render_svg(long)[1] == to_dot(long, column_starts(long, 3))
    assert graphviz.render_svg(short)[1] == to_dot(short)


def test_every_group_has_a_different_colour() -> None:
    assert list(GROUP_COLOURS) == list(GROUPS)
    assert len(set(GROUP_COLOURS.values())) == len(GROUP_COLOURS)


def test_an_svg_has_every_label(surveyed: Survey, tmp_path: Path) -> None:
    picture.draw_network(surveyed, "resnet & 18", tmp_path / "r.svg")
    root = ElementTree.parse(tmp_path / "r.svg").getroot()
    titles = {group.findtext(f"{SVG}title") for group in root.iter(f"{SVG}g")}
    assert {"input", "conv1", "layer1.{0..1}", "layer4.1", "fc", "output"} <= titles
    assert {"resnet & 18", "conv1", "layer4.1", "Conv2d · 9.4k", "1×64×32×32", "● stages", "○ residual"} <= set(
        texts(root)
    )


def test_a_page_loads_nothing(surveyed: Survey, tmp_path: Path) -> None:
    picture.draw_network(surveyed, "resnet18", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "<title>layer1.{0..1}</title>" in text
    assert 'xlink:title="layer1.{0..1}: BasicBlock&#10;shape: 1×64×16×16&#10;parameters: 147,968&#10;' in text
    assert "<script>" in text


def test_a_png_shows_the_drawing(surveyed: Survey, tmp_path: Path) -> None:
    picture.draw_network(surveyed, "resnet18", tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(image.width * image.height) or []}
    assert {(255, 255, 255), (0x2B, 0x3A, 0x4D), (0xE6, 0xEE, 0xF8)} <= colours
    assert [path.name for path in tmp_path.iterdir()] == ["r.png"]


def test_a_png_has_two_pixels_to_a_point() -> None:
    dot = to_dot(chain(node("a"), node("b")))
    root = ElementTree.fromstring(graphviz.render(dot, "svg"))
    points = [float((root.get(side) or "").removesuffix("pt")) for side in ("width", "height")]
    with Image.open(BytesIO(graphviz.render_png(dot))) as image:
        assert list(image.size) == pytest.approx([2 * length for length in points], abs=3)


def test_a_missing_package_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional_dependencies, "find_spec", lambda name: None)
    with pytest.raises(SurgeonError, match="drawing needs pygraphviz and matplotlib") as raised:
        graphviz.require_graphviz()
    assert raised.value.hint == "pip install 'attn-surgeon[draw]'"


def test_input_that_graphviz_cannot_read_is_reported() -> None:
    with pytest.raises(ArtefactError, match=r"Graphviz cannot draw this network: .*Invalid Input"):
        graphviz.render("digraph { a -> ", "svg")
