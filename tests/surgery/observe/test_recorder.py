"""The record of a run: one stand-in is one value, whatever names, views and modules it passes."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.surgery.observe.observe import Observation, observe
from attn_surgeon.surgery.observe.recorder import Event, Recorder
from attn_surgeon.surgery.running import run_network, same_bits, tensors
from tests import toy_networks
from tests.toy_networks import joins, trunks

from ..helpers import image


class Forward(nn.Module):
    """Run a function of a convolution's output."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.function = toy_networks.conv(), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.conv(x))


def observed(function: Callable[[Tensor], Any]) -> tuple[Observation, Tensor, list[Event]]:
    """Give a run, the value the function was given, and the events in it."""
    seen = observe(Forward(function), image())
    given = seen.calls["conv"][0].output
    return seen, given, [event for event in seen.events if event.call == seen.calls[""][0].index]


def same(one: tuple[Tensor, ...], *others: Tensor) -> bool:
    return len(one) == len(others) and all(left is right for left, right in zip(one, others, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.relu_(),
        lambda y: y.mul_(2),
        lambda y: F.relu(y, inplace=True),
        lambda y: y.__iadd__(1),
        torch.sigmoid_,
        lambda y: y.clamp_(0),
    ],
)
def test_what_is_changed_in_place_is_another_value(change: Callable[[Tensor], Tensor]) -> None:
    seen, given, events = observed(lambda y: (change(y), y)[1])
    (event,) = events
    assert same(event.inputs, given)
    assert same(event.outputs, seen.output)
    assert seen.output is not given


def test_out_arguments_are_other_values_too() -> None:
    def into(y: Tensor) -> Tensor:
        total = torch.zeros_like(y)
        torch.add(y, y, out=total)
        return total

    seen, given, events = observed(into)
    assert [event.function for event in events] == ["zeros_like", "add"]
    assert any(value is given for value in events[1].inputs)
    assert same(events[1].outputs, seen.output)


def test_modules_that_return_their_input_have_the_same_value() -> None:
    net = nn.Sequential(toy_networks.conv(), nn.Identity(), nn.Dropout(0.5), joins.DropPath(), nn.ReLU())
    calls = observe(net, image()).calls
    made = calls["0"][0].output
    assert all(calls[name][0].output is made for name in "123")
    assert calls["4"][0].args[0] is made
    assert calls["4"][0].output is not made


def test_in_place_modules_return_a_new_version_of_the_value() -> None:
    calls = observe(nn.Sequential(toy_networks.conv(), nn.ReLU(inplace=True)), image()).calls
    assert calls["1"][0].args[0] is calls["0"][0].output
    assert calls["1"][0].output is not calls["0"][0].output


def test_a_value_changed_through_a_view_of_it() -> None:
    def through_view(y: Tensor) -> Tensor:
        y[:, :2].mul_(2)
        return y

    seen, given, events = observed(through_view)
    assert [event.function for event in events] == ["__getitem__", "mul_", "alias"]
    assert seen.output is not given
    alias = events[2]
    assert alias.inputs[0] is given
    assert any(value is events[1].output for value in alias.inputs)
    assert same(alias.outputs, seen.output)


def test_setting_an_item_makes_a_new_value_of_both() -> None:
    def set_item(y: Tensor) -> Tensor:
        part = torch.tanh(y[:, :1])
        y[:, 1:2] = part
        return y

    seen, given, events = observed(set_item)
    assert [event.function for event in events] == ["__getitem__", "tanh", "__setitem__"]
    assert same(events[2].inputs, given, events[1].output)
    assert same(events[2].outputs, seen.output)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_what_a_scripted_function_made() -> None:
    scripted = torch.jit.trace(lambda y: torch.relu(y) * 2, image())  # type: ignore[no-untyped-call]
    seen = observe(nn.Sequential(toy_networks.conv(), Forward(scripted)), image())
    assert seen.output is not seen.calls["1.conv"][0].output
    assert same(_maker(seen, seen.output).inputs, seen.calls["0"][0].output)


def _maker(seen: Observation, value: Tensor) -> Event:
    (event,) = [event for event in seen.events if any(value is output for output in event.outputs)]
    return event


class Hidden(nn.Module):
    """Compute where nobody looks, as an extension in C++ may."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch._C.DisableTorchFunction():
            return torch.relu(x), x


def test_a_value_without_a_recorded_function_is_produced_by_its_module() -> None:
    net = nn.Sequential(toy_networks.conv(), Hidden())
    seen = observe(net, image())
    given, (made, passed) = seen.calls["0"][0].output, seen.calls["1"][0].output
    event = _maker(seen, made)
    assert event.function == "Hidden"
    assert event.call == seen.calls["1"][0].caller
    assert same(event.inputs, given)
    assert same(event.outputs, made)
    assert passed is given


def test_events_are_in_the_calls_that_made_them() -> None:
    seen = observe(trunks.ResNet(), image(1, 3, 32))
    call = seen.calls["layer1.0"][0]
    assert [event.function for event in seen.events_in[call.index]] == ["add_"]
    assert [seen.by_index[callee.index].path for callee in seen.callees[call.index]] == [
        f"layer1.0.{name}" for name in ("conv1", "bn1", "relu", "conv2", "bn2", "relu")
    ]
    assert seen.caller_path(call) == "layer1"
    assert seen.caller_path(seen.calls[""][0]) is None


def test_several_outputs_of_one_function() -> None:
    seen, given, events = observed(lambda y: y.chunk(2, 1)[1])
    (event,) = events
    assert (event.function, len(event.outputs)) == ("chunk", 2)
    assert event.output[1] is seen.output
    assert same(event.inputs, given)


def test_stand_ins_have_shapes_and_no_storage() -> None:
    seen, _, events = observed(lambda y: y.permute(0, 2, 3, 1).double())
    assert (seen.output.shape, seen.output.dtype, seen.output.device.type) == ((2, 8, 8, 4), torch.float64, "meta")
    assert seen.output.stride() == torch.empty(2, 4, 8, 8).permute(0, 2, 3, 1).stride()
    assert len(events) == 2


def test_nothing_is_kept_alive() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def note(y: Tensor) -> Tensor:
        z = torch.relu(y)
        alive.extend(map(weakref.ref, (y, z)))
        return z

    seen, _, _ = observed(note)
    gc.collect()
    assert len(alive) == 2
    assert [reference() for reference in alive] == [None, None]
    assert seen.output is not None


def plain_networks() -> list[type[nn.Module]]:
    """List the toy networks that take a (2, 4, 8, 8) image and no argument."""
    found = [getattr(toy_networks, name) for name in toy_networks.__all__]
    classes = [item for item in found if inspect.isclass(item) and issubclass(item, nn.Module)]
    layouts = (toy_networks.ChannelsLast, toy_networks.TakesList, toy_networks.TokenBlock, toy_networks.StopsEarly)
    return [cls for cls in classes if not _required(cls) and cls not in layouts]


def _required(cls: type[nn.Module]) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    return any(item.default is item.empty and item.kind is item.POSITIONAL_OR_KEYWORD for item in parameters)


@pytest.mark.parametrize("kind", plain_networks())
def test_watching_changes_no_output_and_leaves_no_trace(kind: type[nn.Module]) -> None:
    net, x = kind(), image()
    before, state, flags = run_network(net, x), torch.get_rng_state(), [module.training for module in net.modules()]
    net.load_state_dict({key: value.clone() for key, value in net.state_dict().items()})
    outputs: list[Any] = []
    handle = net.register_forward_hook(lambda _, __, output: outputs.append(output))
    if isinstance(net, toy_networks.CountsCalls):
        net.steps.zero_()
    seen = observe(net, x)
    handle.remove()
    assert same_bits(before, outputs[0])
    assert [tensor.shape for tensor in tensors(seen.output)] == [tensor.shape for tensor in tensors(before)]
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in net.modules()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_random_draws_are_those_of_the_run_alone() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x) * torch.rand(()).item()

    drawn: list[Tensor] = []
    net, x = Noisy(), image()
    net.register_forward_hook(lambda _, __, output: drawn.append(output))
    run_network(net, x)
    observe(net, x)
    assert torch.equal(*drawn)


def test_hooks_go_though_the_run_fails() -> None:
    def fail(y: Tensor) -> Tensor:
        raise ZeroDivisionError

    net = Forward(fail)
    with pytest.raises(ZeroDivisionError):
        observe(net, image())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert torch.overrides._get_current_function_mode_stack() == []  # type: ignore[no-untyped-call]


def test_describing_is_no_event() -> None:
    recorder = Recorder()
    with recorder:
        x = torch.ones(2)
        given = recorder.describe({"x": [x, 3]})
        y = x + 1
    assert given["x"][0] is recorder.describe(x)
    assert given["x"][1] == 3
    (event,) = recorder.events[1:]
    assert same(event.inputs, given["x"][0])
    assert same(event.outputs, recorder.describe(y))
