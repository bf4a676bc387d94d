"""The children of an operated module: in a list as the original's, in a walk with the grafts, never lost in silence."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import toy_networks

from ..helpers import image, opened


class Net(nn.Module):
    """Have three children in its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.fc = toy_networks.conv(), toy_networks.Residual(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.body(self.stem(x)).mean((2, 3)))
        return y


@pytest.fixture
def model() -> Any:
    return opened(Net().eval(), before=["body", "fc"])


def cut_front(net: nn.Module) -> list[nn.Module]:
    return list(net.children())[:2]


def cut_back(net: nn.Module) -> list[nn.Module]:
    return list(net.children())[:-1]


def unpacked(net: nn.Module) -> list[nn.Module]:
    return [*net.children()][:2]


def rest(net: nn.Module) -> list[nn.Module]:
    return list(net.children())[1:2]


def in_a_tuple(net: nn.Module) -> list[nn.Module]:
    return [tuple(net.children())[1]]


@torch.no_grad()
@pytest.mark.parametrize("cut", [cut_front, cut_back, unpacked, rest, in_a_tuple])
def test_a_list_of_children_equals_the_originals_and_warns_of_omitted_grafts(
    model: Any, cut: Callable[[nn.Module], list[nn.Module]]
) -> None:
    plain, start = Net(), image()
    names = {id(child): name for net in (plain, model) for name, child in net.named_children()}
    with pytest.warns(UserWarning, match="grafts before fc are not in this list"):
        found = cut(model)
    assert [names[id(child)] for child in found] == [names[id(child)] for child in cut(plain)]
    expected = start
    for child in found:
        expected = child(expected)
    assert torch.equal(nn.Sequential(*found)(start), expected)


def test_layers_are_frozen_by_their_number(model: Any) -> None:
    with pytest.warns(UserWarning, match="before fc are not in this list"):
        for child in list(model.children())[:2]:
            child.requires_grad_(False)
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"attn_surgeon", "fc"}


@torch.no_grad()
def test_warns_of_grafts_that_a_loop_over_the_children_does_not_run(model: Any) -> None:
    x = y = image()
    with pytest.warns(UserWarning, match="before fc are part of a forward that does not run here"):
        for child in [child for child in model.children()][:-1]:  # noqa: C416
            y = child(y)
    assert torch.equal(y, model.body(model.stem(x)))


def walk(net: nn.Module, visit: Callable[[nn.Module], None]) -> None:
    visit(net)
    for child in net.children():
        walk(child, visit)


def test_a_walk_over_children_reaches_every_graft(model: Any) -> None:
    seen: list[nn.Module] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        walk(model, seen.append)
        assert {id(part) for part in seen} == {id(part) for part in model.modules()}
        model.half()
        assert {p.dtype for p in model.parameters()} == {torch.float16}
        assert {part.training for part in model.train().modules()} == {True}
        visited: list[nn.Module] = []
        model.apply(visited.append)
        assert len(visited) == len(seen)


class Trained(Net):
    """Set the mode of its children itself, as networks that keep norms frozen do."""

    def train(self, mode: bool = True) -> Trained:
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self


def test_a_train_of_the_networks_own_reaches_the_grafts() -> None:
    model = opened(Trained().eval(), before="fc")
    assert {part.training for part in model.train().modules()} == {True}


class Over(nn.Module):
    """Run a list of its children."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = toy_networks.conv(), toy_networks.conv()

    def forward(self, x: Tensor) -> Tensor:
        for child in list(self.children()):
            x = child(x)
        return x


@torch.no_grad()
def test_a_forward_over_a_list_of_its_children_runs_and_compiles() -> None:
    model, x = opened(toy_networks.Root(Over()).eval(), after="stage"), image()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = model(x)
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(x), expected)
    torch.compiler.reset()
    plain: Any = toy_networks.Root(Over()).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    assert not torch.equal(plain(x), expected)


@torch.no_grad()
def test_copies_and_files_of_a_cut_have_the_originals_children(model: Any, tmp_path: Path) -> None:
    x = image()
    with pytest.warns(UserWarning, match="not in this list"):
        cut = nn.Sequential(*cut_front(copy.deepcopy(model)))
    torch.save(cut, tmp_path / "cut.pt")
    again = torch.load(tmp_path / "cut.pt", weights_only=False)
    assert torch.equal(again(x), model.body(model.stem(x)))
