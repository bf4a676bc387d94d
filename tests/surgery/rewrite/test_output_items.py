"""One of several tensors: taken out of and put into containers, and operated on at sites of its own."""

from __future__ import annotations

import copy
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.rewrite.output_items import get_item, list_items, put_item
from attn_surgeon.surgery.running import run_network, same_bits
from attn_surgeon.surgery.sites.survey import find_sites
from tests import toy_networks

from ..helpers import block_at, grafted, identical, image, opened


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


class Outputs(OrderedDict[str, Any]):
    """Be a dict whose items are attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


@dataclass(frozen=True)
class Record:
    a: Tensor
    b: Tensor


@dataclass
class Holder(OrderedDict[str, Any]):
    """Be a dict and a dataclass at once, as the outputs of transformers are."""

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            super().__setitem__(name, value)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Holder, (self.a, self.b)


FIRST, SECOND, OTHER = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 2.0)
CONTAINERS: list[tuple[Any, str, str]] = [
    ((FIRST, SECOND), "0", "1"),
    ([FIRST, SECOND], "0", "1"),
    (Pair(FIRST, SECOND), "0", "1"),
    ({"a": FIRST, "b": SECOND}, "a", "b"),
    ({1: FIRST, 2: SECOND}, "1", "2"),
    (OrderedDict(a=FIRST, b=SECOND), "a", "b"),
    (defaultdict(list, a=FIRST, b=SECOND), "a", "b"),
    (UserDict(a=FIRST, b=SECOND), "a", "b"),
    (Outputs(a=FIRST, b=SECOND), "a", "b"),
    (Holder(FIRST, SECOND), "a", "b"),
    (Record(FIRST, SECOND), "a", "b"),
]


@pytest.mark.parametrize(("value", "first", "second"), CONTAINERS, ids=lambda item: type(item).__name__)
def test_replacing_tensors_returns_a_copy_of_the_same_type(value: Any, first: str, second: str) -> None:
    changed = put_item(value, second, OTHER)
    assert type(changed) is type(value)
    assert get_item(changed, first) is FIRST
    assert get_item(changed, second) is OTHER
    assert get_item(value, first) is FIRST
    assert get_item(value, second) is SECOND


@pytest.mark.parametrize(("value", "first", "second"), CONTAINERS[:-1], ids=lambda item: type(item).__name__)
def test_keys_are_listed_as_they_are_taken(value: Any, first: str, second: str) -> None:
    (one, left), (other, right) = list_items(value)
    assert (one, other) == (first, second)
    assert left is FIRST
    assert right is SECOND


def test_a_dict_with_attributes_shows_the_new_item_by_both() -> None:
    changed = put_item(Holder(FIRST, SECOND), "b", OTHER)
    assert changed.b is changed["b"] is OTHER
    assert list(changed) == ["a", "b"]


def test_only_tensors_are_items() -> None:
    assert [key for key, _ in list_items((FIRST, None, [SECOND], 3, SECOND))] == ["0", "4"]
    assert list_items("text") == list_items(None) == list_items(FIRST) == []


Give = Callable[[Tensor, Tensor], Any]


class Branches(nn.Module):
    """Give two maps in one of many containers."""

    def __init__(self, give: Give) -> None:
        super().__init__()
        self.a, self.b, self.give = toy_networks.conv(), toy_networks.conv(), give

    def forward(self, x: Tensor) -> Any:
        return self.give(self.a(x), self.b(x))


class TakesItems(nn.Module):
    """Take the two maps out again."""

    def __init__(self, give: Give, first: str, second: str) -> None:
        super().__init__()
        self.backbone, self.out, self.keys = Branches(give), toy_networks.conv(), (first, second)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        first, second = (get_item(features, key) for key in self.keys)
        return self.out(first) - second  # type: ignore[no-any-return]


GIVEN: list[tuple[Give, str, str]] = [
    (lambda a, b: (a, b), "0", "1"),
    (lambda a, b: [a, b], "0", "1"),
    (Pair, "0", "1"),
    (lambda a, b: {"low": a, "high": b}, "low", "high"),
    (lambda a, b: {0: a, 1: b}, "0", "1"),
    (lambda a, b: OrderedDict(low=a, high=b), "low", "high"),
    (lambda a, b: Outputs(low=a, high=b), "low", "high"),
    (Holder, "a", "b"),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("give", "first", "second"), GIVEN)
def test_sites_at_one_of_several_outputs_of_a_module(give: Give, first: str, second: str, training: bool) -> None:
    net, x = TakesItems(give, first, second), image()
    assert identical(net, grafted(net, [f"backbone:{first}", f"backbone:{second}"]), x)
    model = opened(net, f"backbone:{second}")
    (made,) = list_grafts(model)
    with torch.no_grad():
        expected = net.out(net.backbone.a(x)) - made.block(net.backbone.b(x))
    assert torch.equal(run_network(model, x, training=training), expected)
    assert same_bits(run_network(remove(model), x), run_network(net, x))


def test_both_items_at_once_and_each_alone() -> None:
    net, x = TakesItems(lambda a, b: (a, b), "0", "1"), image()
    model = opened(net, ["backbone:0", "backbone:1"])
    with torch.no_grad():
        first = block_at(model, "backbone:0")(net.backbone.a(x))
        second = block_at(model, "backbone:1")(net.backbone.b(x))
        assert torch.equal(model(x), net.out(first) - second)
        less = remove(model, "backbone:0")
        assert torch.equal(less(x), net.out(net.backbone.a(x)) - second)


@pytest.mark.parametrize("training", [False, True])
def test_sites_at_one_of_several_outputs_of_a_function(training: bool) -> None:
    net, x = toy_networks.Chunks(), image()
    assert identical(net, grafted(net, ["chunk:0", "chunk:1"]), x)
    model = opened(net, "chunk:1")
    (made,) = list_grafts(model)
    assert made.graft.placement.how == "fx"
    with torch.no_grad():
        left, right = net.conv(x).chunk(2, 1)
        right = made.block(right) + (1 if training else 0)
        expected = torch.cat((net.a(left), net.b(right)), 1)
    assert torch.equal(run_network(model, x, training=training), expected)


class Meets(nn.Module):
    """Let values meet in functions, one of them with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = toy_networks.conv(), toy_networks.conv()

    def forward(self, x: Tensor) -> Tensor:
        x, y = self.a(x), self.b(x)
        return torch.cat([x, y], 1) + torch.cat([y, y], dim=1)


@pytest.mark.parametrize(
    ("site", "place"), [("cat:0", 0), ("cat:1", 1), ("cat_1:0", 2), ("cat_1:1", 3), ("add:0", 4), ("add:1", 5)]
)
def test_before_one_input_of_a_function(site: str, place: int) -> None:
    net, x = Meets(), image()
    assert identical(net, grafted(net, before=site), x)
    model = opened(net, before=site)
    (made,) = list_grafts(model)

    def at(index: int, value: Tensor) -> Tensor:
        return made.block(value) if index == place else value

    with torch.no_grad():
        a, b = net.a(x), net.b(x)
        left, right = torch.cat([at(0, a), at(1, b)], 1), torch.cat([at(2, b), at(3, b)], 1)
        assert torch.equal(model(x), at(4, left) + at(5, right))


def test_inputs_of_a_function_on_one_value() -> None:
    class Doubles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = toy_networks.conv()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x + x

    net, x = Doubles(), image()
    names = [site.name for site in find_sites(net, x)]
    assert names == ["conv", "add", "add:0", "add:1"]
    model = opened(net, before="add:1")
    with torch.no_grad():
        assert torch.equal(model(x), net.conv(x) + block_at(model, "add:1", "before")(net.conv(x)))
    both = opened(net, before=["add:0", "add:1"])
    with torch.no_grad():
        first, second = (block_at(both, f"add:{n}", "before")(net.conv(x)) for n in (0, 1))
        assert torch.equal(both(x), first + second)


def test_numbers_are_no_inputs_and_one_is_no_several() -> None:
    names = [site.name for site in find_sites(toy_networks.Masked(), image())]
    assert names == ["conv", "relu", "add", "add:0", "add:1"]


def test_both_copies_survive_deepcopy() -> None:
    net, x = toy_networks.Chunks(), image()
    model = copy.deepcopy(opened(net, "chunk:0", "cat:1"))
    with torch.no_grad():
        left, right = net.conv(x).chunk(2, 1)
        left = block_at(model, "chunk:0")(left)
        expected = torch.cat((net.a(left), block_at(model, "cat:1", "before")(net.b(right))), 1)
    assert torch.equal(run_network(model, x), expected)
