"""What depends on what in a run, against a slow reference that takes values out and looks what is still reached."""

from __future__ import annotations

import random
from collections.abc import Collection
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.observe import Observation, observe
from attn_surgeon.surgery.observe.recorder import Event
from tests import toy_networks
from tests.toy_networks import detours, joins, trunks

from ..helpers import image

SEEDS = range(25)


def drawn(seed: int, inputs: int = 1, size: int = 14) -> Dataflow:
    """Make a run of operations on one to three values drawn from those before."""
    draw = random.Random(seed)
    values = [torch.empty(1, device="meta") for _ in range(inputs + size)]
    events = []
    for number in range(inputs, inputs + size):
        near = values[max(0, number - 5) : number]
        sources = tuple(draw.sample(near, min(len(near), draw.choice((1, 1, 2, 2, 3)))))
        name = draw.choice(("add", "cat") if len(sources) > 1 else ("relu", "conv2d", "linear"))
        events.append(Event(name, None, sources, (values[number],), values[number]))
    seen = Observation({}, {}, tuple(events), tuple(values[:inputs]), values[-1], {}, {}, nn.Identity(), values[0])
    return Dataflow(seen)


def reached(flow: Dataflow, starts: Collection[int], without: int | None = None) -> set[int]:
    """List the values that paths from the starts lead to, themselves among them."""
    found = {start for start in starts if start != without}
    for number, sources in enumerate(flow.sources):
        if number != without and found.intersection(sources):
            found.add(number)
    return found


def inputs_of(flow: Dataflow) -> list[int]:
    return [number for number, sources in enumerate(flow.sources) if not sources]


def dominators(flow: Dataflow, number: int) -> list[int]:
    """List the values without which a value is not reached, itself among them, the last first."""
    starts = inputs_of(flow)
    return [other for other in reversed(range(number + 1)) if number not in reached(flow, starts, other)]


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_dominators(seed: int, inputs: int) -> None:
    flow = drawn(seed, inputs)
    for number in range(len(flow.values)):
        assert list(flow.dominators(number)) == dominators(flow, number)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_common_dominator(seed: int) -> None:
    flow = drawn(seed, inputs=2)
    for left in range(len(flow.values)):
        for right in range(left, len(flow.values)):
            shared = set(dominators(flow, left)) & set(dominators(flow, right))
            assert flow.common_dominator((left, right)) == max(shared, default=None)


@pytest.mark.parametrize("seed", SEEDS)
def test_between(seed: int) -> None:
    flow = drawn(seed)
    for end in range(1, len(flow.values)):
        for start in dominators(flow, end)[1:]:
            after = reached(flow, [start]) - {start}
            on_the_way = [number for number in sorted(after) if end in reached(flow, [number])]
            assert flow.between(start, end) == on_the_way
            assert flow.between(start, end, limit=len(on_the_way) - 1) in (None, on_the_way)


def test_nothing_is_between_a_value_and_itself() -> None:
    flow = drawn(0)
    assert flow.between(5, 5) == []


def test_too_many_between() -> None:
    values = [torch.empty(1, device="meta") for _ in range(12)]
    events = [Event("relu", None, (one,), (other,), other) for one, other in pairwise(values)]
    flow = Dataflow(Observation({}, {}, tuple(events), (values[0],), values[-1], {}, {}, nn.Identity(), values[0]))
    assert flow.between(0, 11, limit=11) == list(range(1, 12))
    assert flow.between(0, 11, limit=5) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_layered(seed: int) -> None:
    flow = drawn(seed)
    layers = [
        n for n, maker in enumerate(flow.producers) if maker is not None and maker.function in ("conv2d", "linear")
    ]
    assert [number for number, layered in enumerate(flow.layered) if layered] == sorted(reached(flow, layers))


def test_before_the_first_layer_flows_the_image() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(4), toy_networks.conv()

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.conv(self.norm(x / 255) * 2))

    assert Dataflow(observe(Normalised(), image())).layered == [False, False, False, False, True, True]


class WithParameter(nn.Module):
    """Add to the stream what was computed from parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bias = toy_networks.conv(), nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.bias.exp() * 2  # type: ignore[no-any-return]


def test_parameters_and_what_is_made_of_them_do_not_depend_on_the_input() -> None:
    seen = observe(WithParameter(), image())
    flow = Dataflow(seen)
    made = {event.function: event for event in seen.events}
    assert flow.number(made["exp"].output) is None
    assert flow.values == [seen.inputs[0], made["conv2d"].output, seen.output]
    assert flow.sources == [(), (0,), (1,)]
    assert flow.outputs == (2,)


def test_a_value_changed_through_a_view_depends_on_the_assigned_value() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = toy_networks.conv(), toy_networks.conv()

        def forward(self, x: Tensor) -> Tensor:
            y, z = self.a(x), self.b(x)
            y[:, :2].copy_(z[:, 2:])
            return y  # type: ignore[no-any-return]

    seen = observe(Writes(), image())
    flow = Dataflow(seen)
    number = flow.number(seen.output)
    assert number is not None
    before = flow.between(0, number)
    assert before is not None
    assert {flow.number(seen.calls[name][0].output) for name in "ab"} < set(before)
    assert list(flow.dominators(number)) == [number, 0]


def test_users_and_what_they_make() -> None:
    seen = observe(joins.Parallel(), image())
    flow = Dataflow(seen)
    users = [event.function for event in flow.users[0]]
    assert sorted(name.strip("_") for name in users) == ["add", "conv2d", "conv2d"]
    last = flow.outputs[0]
    assert flow.users[last] == []
    assert [flow.parametric(number) for number in flow.sources[last]] == [False, True]


def test_where_values_are_made() -> None:
    seen = observe(trunks.ResNet(), image(1, 3, 32))
    flow = Dataflow(seen)
    number = flow.number(seen.calls["layer1.0.bn2"][0].output)
    assert number is not None
    maker = flow.producers[number]
    assert maker is not None
    assert [call.path for call in flow.callers(maker)] == ["layer1.0.bn2", "layer1.0", "layer1", ""]
    assert flow.computed_in(number, seen.calls["layer1"][0])
    assert not flow.computed_in(number, seen.calls["layer2"][0])
    assert not flow.computed_in(0, seen.calls[""][0])


@pytest.mark.parametrize("mixing", [detours.added, detours.spread, detours.modulated, detours.gated])
def test_a_condition_is_not_on_the_way(mixing: detours.Mixing) -> None:
    seen = observe(detours.Diffusion(mixing), (image(2, 3, 16), torch.tensor([3, 5])))
    flow = Dataflow(seen)
    ends = [flow.number(seen.calls[name][0].output) for name in ("stem", "down1", "down2", "stride", "mid")]
    stem, down1, down2, stride, mid = ends
    assert [number for number in flow.dominators(mid) if number in ends] == [mid, stride, down2, down1, stem]
    assert flow.common_dominator((0, 1)) is None
    given = flow.number(seen.calls["down1.conv2"][0].output)
    assert given is not None
    assert stem in list(flow.dominators(given))
    assert 1 in (flow.between(None, given) or ())


def test_numbers_that_are_not_real_and_other_inputs_only_condition_an_attention() -> None:
    example = (image(2, 3, 16), torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.long))
    seen = observe(detours.Crossed(), example)
    flow = Dataflow(seen)
    embed, q, proj = (flow.number(seen.calls[name][0].output) for name in ("embed", "q", "proj"))
    assert proj is not None
    assert {embed, q} < set(flow.dominators(proj))
    scores = next(event for event in seen.events if event.function == "masked_fill")
    number = flow.number(scores.output)
    assert number is not None
    assert len(flow.sources[number]) == 2
    assert flow.leading[number] == (flow.number(scores.inputs[0]),)


def test_filters_of_single_channels() -> None:
    seen = observe(trunks.Inverted(4, 4, 1), image())
    flow = Dataflow(seen)
    layers = [number for number in range(len(flow.values)) if flow.parametric(number)]
    assert [flow.depthwise(number) for number in layers] == [False, True, False]
