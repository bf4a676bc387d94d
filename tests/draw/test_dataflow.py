"""The diagram: the nodes and edges of networks whose data flow is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon import insert
from attn_surgeon.draw.dataflow import build_diagram
from attn_surgeon.draw.diagram import Diagram
from attn_surgeon.surgery.sites.survey import survey

IMAGE = torch.randn(1, 3, 16, 16)


class Block(nn.Module):
    """conv → bn, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.conv(x))
        out: Tensor = self.relu(self.bn(inner) + x)
        return out


class Small(nn.Module):
    """A stem, a branch beside two blocks alike, a join, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.side = nn.Conv2d(8, 8, 1)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.drop(self.blocks(x)), self.side(x)], dim=1)
        scores: Tensor = self.fc(x.mean((2, 3)).flatten(1))
        return scores


class Pyramid(nn.Module):
    """Two levels, the coarse one added to the fine one, in a forward that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 4, 3, padding=1)
        self.coarse = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.out = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        if float(coarse.sum()) > 1e9:
            return [coarse]
        larger = nn.functional.interpolate(coarse, size=fine.shape[-2:])
        return [self.out(fine + larger), self.out(coarse)]


def diagram(model: nn.Module, depth: int | None = None) -> Diagram:
    return build_diagram(survey(model.eval(), IMAGE), "a network", depth)


def edges(model: nn.Module, depth: int | None = None) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in diagram(model, depth).edges}


def test_edges_are_the_flow_between_modules_and_joins() -> None:
    assert edges(Small(), depth=1) == {
        ("input", "stem"), ("stem", "blocks"), ("stem", "side"), ("blocks", "cat"), ("side", "cat"),
        ("cat", "mean"), ("mean", "fc"), ("fc", "output"),
    }  # fmt: skip


def test_a_run_of_blocks_shows_the_flow_of_one_and_a_module_called_twice_is_two_nodes() -> None:
    run = "blocks.{0..1}"
    assert edges(Small(), depth=3) == {
        ("input", "stem"), ("stem", f"{run}.conv"), ("stem", f"{run}.add"), ("stem", "side"),
        (f"{run}.conv", f"{run}.relu"), (f"{run}.relu", f"{run}.bn"), (f"{run}.bn", f"{run}.add"),
        (f"{run}.add", f"{run}.relu_1"), (f"{run}.relu_1", "cat"), ("side", "cat"),
        ("cat", "mean"), ("mean", "fc"), ("fc", "output"),
    }  # fmt: skip
    assert diagram(Small(), depth=3).clusters["blocks.{0..1}"] == 2


def test_functions_of_a_forward_that_cannot_be_traced_are_recorded() -> None:
    assert edges(Pyramid()) == {
        ("input", "fine"), ("fine", "coarse"), ("coarse", "interpolate"), ("interpolate", "add"), ("fine", "add"),
        ("add", "out"), ("coarse", "out"), ("out", "output"),
    }  # fmt: skip


def test_nodes_show_shapes_counts_and_parameters() -> None:
    nodes = {node.name: node for node in diagram(Small(), depth=2).nodes}
    run = nodes["blocks.{0..1}"]
    assert (run.type, run.repeats, run.shapes, run.clusters) == ("Block", 2, ("1×8×16×16",), ("blocks",))
    assert run.parameters == sum(parameter.numel() for parameter in Small().blocks.parameters())
    assert nodes["cat"].shapes == ("1×16×16×16",)


def test_groups_are_labelled_on_the_node_that_computes_the_value() -> None:
    nodes = {node.name: node for node in diagram(Small(), depth=2).nodes}
    assert nodes["blocks.{0..1}"].groups == ("blocks",)
    assert "residual" in nodes["blocks.{0..1}"].inner_groups
    assert "fusions" in nodes["cat"].groups


def test_grafts_are_labelled_on_the_nodes_of_their_sites() -> None:
    operated = insert(Small(), block="eca", after=["blocks.1.bn", "stem", "blocks"], example=IMAGE)
    made = diagram(operated, depth=2)
    assert {node.name: node.grafts for node in made.nodes if node.grafts} == {
        "stem": ("eca after",),
        "blocks.1": ("eca after blocks.1.bn", "eca after blocks"),
    }
    flow = {(edge.source, edge.target) for edge in made.edges}
    assert {("stem", "blocks.0"), ("stem", "side"), ("blocks.0", "blocks.1"), ("blocks.1", "cat")} <= flow


class Looking(nn.Module):
    """A residual block whose forward looks at values, so that it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out if float(out.sum()) > 1e9 else out + x


class Ladder(nn.Module):
    """Two lists of modules, used in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)])
        self.act = nn.ModuleList([nn.PReLU(), nn.PReLU(5)])

    def forward(self, x: Tensor) -> Tensor:
        for conv, act in zip(self.down, self.act, strict=True):
            x = act(conv(x))
        return x


def test_functions_without_a_graph_are_folded_with_their_blocks() -> None:
    run = "{0..2}"
    assert edges(nn.Sequential(Looking(), Looking(), Looking()), depth=2) == {
        ("input", f"{run}.conv"), ("input", f"{run}.add"), (f"{run}.conv", f"{run}.add"), (f"{run}.add", "output"),
    }  # fmt: skip


def test_lists_used_in_turns_are_opened() -> None:
    assert edges(Ladder(), depth=1) == {
        ("input", "down.0"), ("down.0", "act.0"), ("act.0", "down.1"), ("down.1", "act.1"), ("act.1", "output"),
    }  # fmt: skip
