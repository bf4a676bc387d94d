"""What the gates of a block tell: what closes it, whether it is closed, how far it is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import (
    BlockSpec,
    SecondInput,
    build_block,
    closing_parameters,
    gate_maps,
    gates_of,
    get_card,
    import_user_blocks,
    is_identity,
    openness,
)

from .helpers import ALONE, NAMES, at_random, bits, block

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "gc": [{"fusion": "mul"}, {"fusion": "both"}],
    "ge": [{"parameters": False}],
    "scse": [{"combine": "max"}],
    "soft": [{"form": "softmax"}],
    "nonlocal": [{"norm": False}],
    "triplet": [{"spatial": False}],
}
CASES = [(name, options) for name in NAMES for options in ({}, *OPTIONS.get(name, []))]


def inputs(name: str) -> list[Tensor]:
    return [torch.randn(2, 16, 6, 5) for _ in range(get_card(name).inputs)]


def made(name: str, options: dict[str, Any], init: str = "identity") -> nn.Module:
    second = SecondInput(16) if get_card(name).inputs == 2 else None
    return build_block(BlockSpec.read(name, options, init), 16, other=second).eval()


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_block_is_closed_whatever_its_other_parameters_are(name: str, options: dict[str, Any]) -> None:
    module, given = made(name, options), inputs(name)
    assert is_identity(module)
    closing = closing_parameters(module)
    values = {key: parameter.clone() for key, parameter in closing.items()}
    at_random(module)
    for key, parameter in closing.items():
        parameter.copy_(values[key])
    assert is_identity(module)
    assert torch.equal(bits(module(*given)), bits(given[0]))
    assert openness(module, *given) == 0


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_each_closing_parameter_alone_opens_it(name: str, options: dict[str, Any]) -> None:
    module, given = made(name, options), inputs(name)
    values = {key: parameter.clone() for key, parameter in closing_parameters(module).items()}
    at_random(module)
    for opened in values:
        for key, parameter in closing_parameters(module).items():
            parameter.copy_(values[key]) if key != opened else parameter.add_(0.5)
        assert not is_identity(module), opened
        assert openness(module, *given) > 0, opened


PUBLISHED = {"cam", "crisscross", "danet", "gct", "nonlocal", "pam", "self"}  # the identity in their papers too


@pytest.mark.parametrize("name", NAMES)
def test_a_published_start_is_open(name: str) -> None:
    published = name in PUBLISHED or name == "gc"
    assert is_identity(made(name, {}, "paper")) == published


@torch.no_grad()
def test_a_published_sigmoid_is_never_closed() -> None:
    module: Any = made("se", {}, "paper")
    for parameter in module.parameters():
        parameter.zero_()
    assert not is_identity(module)
    assert openness(module, torch.randn(1, 16, 3, 3)) == pytest.approx(0.5)


@torch.no_grad()
def test_maps_are_what_features_are_multiplied_by() -> None:
    for name, layout, grid, shape in (
        ("cbam", "NCHW", None, (2, 16, 6, 5)),
        ("coord", "NHWC", None, (2, 6, 5, 16)),
        ("se+spatial", "NCHW", None, (2, 16, 6, 5)),
        ("se", "NLC", None, (2, 31, 16)),
        ("coord", "NLC", (6, 5), (2, 31, 16)),
        ("lka", "NCHW", None, (2, 16, 6, 5)),
        ("triplet", "NCHW", None, (2, 16, 6, 5)),
        ("psa-s", "NCHW", None, (2, 16, 6, 5)),
    ):
        prefix = int(layout == "NLC")
        module = at_random(build_block(BlockSpec.read(name, {}), 16, layout=layout, grid=grid, prefix=prefix)).eval()
        x = torch.randn(shape)
        product = torch.ones(2, 16, *((30, 1) if (name, layout) == ("se", "NLC") else (6, 5)))
        for values in gate_maps(module, x).values():
            for value in values:
                product = product * value
        weights = product if layout == "NCHW" else product.movedim(1, -1)
        expected = x.clone()
        expected[:, prefix:] *= weights.flatten(1, 2) if layout == "NLC" else weights
        torch.testing.assert_close(module(x), expected if prefix else x * weights)


@torch.no_grad()
def test_maps_of_additive_gates_are_norms_at_each_position() -> None:
    for name, path in (("mhsa", "gate"), ("simam", "outer")):
        module, x = at_random(block(name, 16)), torch.randn(2, 16, 6, 5)
        (value,) = gate_maps(module, x)[path]
        expected = (module(x) - x).norm(dim=1, keepdim=True) / x.norm(dim=1, keepdim=True)
        torch.testing.assert_close(value, expected)


def test_gates_have_formulas() -> None:
    told = {path: gate.formula for path, gate in gates_of(block("cpca", 16)).items()}
    assert told == {"gate": "y = x · z", "channel.gate": "y = x · 2 · sigmoid(z)"}
    assert [gate.formula for gate in gates_of(block("ese", 16, "paper")).values()] == ["y = x · hardsigmoid(z)"]
    assert all(gate.formula.startswith("y = ") for name in ALONE for gate in gates_of(block(name, 16)).values())
    assert all(gates_of(block(name, 16)) for name in NAMES)


OWN = '''
import torch
from torch import nn


class Whole(nn.Module):
    """Of any start: it gets a blend."""

    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.layer(x)


class Closed(nn.Module):
    """Starts as the identity by itself; its first bias is zero too, and closes nothing."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        for parameter in (self.first.bias, *self.last.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x):
        return x + self.last(self.first(x).relu())


class Scale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return x * self.weight


class Passing(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x
'''


@torch.no_grad()
def test_blocks_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    closing = {
        "Whole": ["outer.gamma"],
        "Closed": ["block.last.weight", "block.last.bias"],
        "Scale": ["block.weight"],
        "Passing": [],
    }
    for factory, names in closing.items():
        module = build_block(BlockSpec.read(import_user_blocks(f"mine.py:{factory}"), {}), 16)
        assert list(closing_parameters(module)) == names
        assert is_identity(module) == bool(names)
        before = {key: parameter.clone() for key, parameter in closing_parameters(module).items()}
        at_random(module)
        assert not is_identity(module)
        assert list(closing_parameters(module)) == names
        for key, value in before.items():
            module.get_parameter(key).copy_(value)
        assert is_identity(module) == bool(names)
    stack = build_block(BlockSpec.read(import_user_blocks("se+mine.py:Scale"), {}), 16)
    assert list(closing_parameters(stack)) == ["0.fc2.weight", "0.fc2.bias", "1.block.weight"]
    assert is_identity(stack)
    stack.get_parameter("1.block.weight").add_(1)
    assert not is_identity(stack)


def test_a_layer_that_was_replaced_is_still_found() -> None:
    convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
    module = convert(block("spatial", 16))
    assert is_identity(module)
    nn.init.ones_(module.get_parameter("bn.weight"))
    assert not is_identity(module)
    other: Any = block("coord", 16)
    other.conv_h = nn.Identity()  # whatever this one does, it does not close the rows
    assert not is_identity(other)
