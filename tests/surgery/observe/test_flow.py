"""Nodes of a module's own graph are matched with the operations of the run, and so have their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from attn_surgeon.surgery.observe.flow import flow
from attn_surgeon.surgery.observe.functions import plain_name
from attn_surgeon.surgery.observe.observe import Observation, observe
from attn_surgeon.surgery.rewrite.binding import bind_calls
from attn_surgeon.surgery.rewrite.trace import trace
from attn_surgeon.surgery.running import tensors
from tests import toy_networks

from ..helpers import image


def flowing(net: nn.Module, path: str = "") -> tuple[dict[str, Any], Observation]:
    """Give the value of every node in a module's own graph, by name, and the run."""
    seen = observe(net, image())
    module, call = net.get_submodule(path), seen.calls[path][0]
    shallow = trace(module, bind_calls(type(module).forward, [(call.args, call.kwargs)]))
    values = flow(module, shallow, call, seen)
    return {name: values.get(node) for name, node in shallow.nodes.items()}, seen


class Forward(nn.Module):
    """Run a function on two convolutions' outputs."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.function = toy_networks.conv(), toy_networks.conv(), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.a(x), self.b(x))


def in_place(x: Tensor, y: Tensor) -> Tensor:
    x += y
    x *= 2
    x -= 1
    x /= 3
    return x


def pieces(x: Tensor, y: Tensor) -> Tensor:
    left, _ = torch.split(x, [1, 3], 1)
    first, second = y.chunk(2, dim=1)
    return torch.cat((left * first, second), 1)


def alike(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat((x.mean(1), x.mean(1) + 1, x.mean(2)), 1).mean((0, 1)) + torch.relu(y) * torch.relu(y)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x + y,
        lambda x, y: 2 * x,
        lambda x, y: 1 - x,
        lambda x, y: 1 / x + x / 2,
        lambda x, y: 2**x + x**2,
        lambda x, y: -x @ y,
        lambda x, y: y + x // 2,
        lambda x, y: y + x % 3,
        lambda x, y: torch.add(x, y) + x.add(y),
        in_place,
        pieces,
        alike,
        lambda x, y: x[:, 0:2] * y[:, 2:],
        lambda x, y: F.relu(x, inplace=True) + F.interpolate(y, size=(8, 8)),
        lambda x, y: x.flatten(1).unbind(0)[1],
        lambda x, y: torch.max(x, 1)[0],
        lambda x, y: torch.stack([x, y]).sum(0),
        lambda x, y: F.adaptive_avg_pool2d(x, 1).expand_as(y) * y.sigmoid(),
        lambda x, y: torch.einsum("nchw,nchw->nc", x, y),
        lambda x, y: F.scaled_dot_product_attention(x, y, y),
    ],
)
def test_every_node_is_an_operation_of_the_run(function: Callable[[Tensor, Tensor], Any]) -> None:
    values, seen = flowing(Forward(function))
    made = {id(value) for event in seen.events for value in event.outputs}
    unknown = [name for name, value in values.items() if not all(id(tensor) in made for tensor in tensors(value))]
    assert unknown == []
    assert None not in values.values()
    assert seen.output is list(values.values())[-1]


def test_equal_nodes_are_distinguished_by_their_order() -> None:
    values, seen = flowing(Forward(alike))
    means = [event.output for event in seen.events if event.function == "mean"]
    assert [values[name] is mean for name, mean in zip(("mean", "mean_1", "mean_2", "mean_3"), means, strict=True)] == [
        True
    ] * 4


def test_repeated_calls_of_one_module_have_each_their_own_value() -> None:
    values, seen = flowing(toy_networks.SharedRelu())
    relu = [call.output for call in seen.calls["relu"]]
    named = [value for name, value in values.items() if name.startswith("relu")]
    assert [one is other for one, other in zip(named, relu, strict=True)] == [True] * 3


def test_a_module_under_two_names() -> None:
    values, seen = flowing(toy_networks.Tied())
    first, second = (call.output for call in seen.calls["first"])
    assert values["first"] is first
    assert values["tanh"].shape == first.shape
    assert seen.output is second is list(values.values())[-1]


def test_sites_at_items_of_the_output_of_a_module() -> None:
    values, seen = flowing(toy_networks.Unpacks())
    first, second = seen.calls["backbone"][0].output
    assert values["backbone"] is seen.calls["backbone"][0].output
    assert values["getitem"] is first
    assert values["getitem_1"] is second
    assert values["add"] is seen.calls["out"][0].args[0]


def test_parameters_and_buffers_in_a_forward() -> None:
    class Scaled(nn.Module):
        table: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = toy_networks.conv(), nn.Parameter(torch.ones(4, 1, 1))
            self.register_buffer("table", torch.ones(8))

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * self.scale + self.table  # type: ignore[no-any-return]

    values, seen = flowing(Scaled())
    made = {event.function: event.output for event in seen.events}
    assert values["mul"] is made["mul"]
    assert values["add"] is seen.output


@fx.wrap
def several(x: Tensor, y: Tensor) -> Tensor:
    """Do three operations that a trace shows as one node."""
    return torch.relu(x) * 2 + y.mean(1, keepdim=True)


def test_a_wrapped_function_of_several_operations_has_its_shape() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = toy_networks.conv(), toy_networks.conv()

        def forward(self, x: Tensor) -> Tensor:
            y = several(self.a(x), x)
            return torch.tanh(self.out(y).flatten(2))

    values, seen = flowing(Wrapped())
    assert list(values) == ["a", "several", "out", "flatten", "tanh"]
    assert values["several"].shape == (2, 4, 8, 8)
    assert values["out"] is seen.calls["out"][0].output
    assert values["tanh"] is seen.output


def test_operations_in_a_wrapped_function_are_no_nodes() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = toy_networks.conv()

        def forward(self, x: Tensor) -> Tensor:
            return several(self.a(x), x).mean((2, 3)) + x.mean((2, 3))

    values, _ = flowing(Wrapped())
    assert [tuple(values[name].shape) for name in ("several", "mean", "mean_1")] == [(2, 4, 8, 8), (2, 4), (2, 4)]


def test_what_looks_at_values_is_not_known_and_stops_nothing() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = toy_networks.conv(), toy_networks.conv()

        def forward(self, x: Tensor) -> Tensor:
            scale = self.a(x).amax().item()
            return self.out(x * scale)  # type: ignore[no-any-return]

    values, seen = flowing(Looks())
    assert values["item"] is None
    assert values["out"] is seen.output


def test_arguments_by_keyword_and_default() -> None:
    values, seen = flowing(toy_networks.CallsMasked(), "stage")
    adds = [event.output for event in seen.events if plain_name(event.function) == "add"]
    assert [values["add"] is adds[0], values["add_1"] is adds[1]] == [True, True]
    assert seen.calls["stage"][0].output is values["add_1"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("__add__", "add"),
        ("__radd__", "add"),
        ("__iadd__", "add"),
        ("add_", "add"),
        ("iadd", "add"),
        ("__rsub__", "sub"),
        ("__truediv__", "div"),
        ("__itruediv__", "div"),
        ("__rpow__", "pow"),
        ("__floordiv__", "floor_divide"),
        ("relu_", "relu"),
        ("interpolate", "interpolate"),
        ("reshape", "reshape"),
        ("index_select", "index_select"),
        ("__getitem__", "getitem"),
    ],
)
def test_operators_are_called_as_their_functions(name: str, plain: str) -> None:
    assert plain_name(name) == plain
