"""Blocks of the user's own: registered, named by file, made the identity, and told what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon import insert, load, remove, save
from attn_surgeon.blocks import BlockSpec, build_block, get_card, import_user_blocks, register_block
from attn_surgeon.blocks.base import registry
from attn_surgeon.errors import BlockError, PlanError

from .helpers import bits, still

CODE = '''
import torch
from torch import nn

class Scale(nn.Module):
    """Weigh every channel by a number."""

    def __init__(self, channels, start=0.5, bias=None):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), float(start)))

    def forward(self, x):
        return x * self.weight

class Mean(Scale):
    reach = "channels"

    def forward(self, x):
        return x * self.weight + x.mean((2, 3), keepdim=True)

class Fuse(Scale):
    inputs = 2

    def forward(self, x, y):
        return x * self.weight + y

class Pooled(Scale):
    def forward(self, x):
        return x.mean((2, 3))

class Late(Scale):
    """Starts as the identity by itself."""

    def __init__(self, channels):
        super().__init__(channels, 0.0)

    def forward(self, x):
        return x + self.weight * torch.sin(x)

def anything(channels, **options):
    return Scale(channels, **options)

def broken(channels):
    raise RuntimeError("no luck")

def empty(channels):
    return None
'''


@pytest.fixture(autouse=True)
def _nothing_registered() -> Iterator[None]:
    registry._OWN.clear()
    yield
    registry._OWN.clear()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return str(path)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()


def test_a_block_named_by_file(file: str) -> None:
    model, x = network(), torch.randn(2, 3, 9, 9)
    operated = insert(model, f"{file}:Scale", example=x, after="1", options={"start": "0.25"})
    assert torch.equal(bits(operated(x)), bits(model(x)))
    parameters = {
        name: value for name, value in operated.named_parameters() if name not in dict(model.named_parameters())
    }
    gamma = next(value for name, value in parameters.items() if name.endswith("outer.gamma"))
    weight = next(value for name, value in parameters.items() if name.endswith("block.weight"))
    assert torch.equal(weight, torch.full((8, 1, 1), 0.25))
    with torch.no_grad():
        gamma.fill_(1.0)
    torch.testing.assert_close(operated(x), model[2](model[1](model[0](x)) * 0.25))  # type: ignore[index]
    assert torch.equal(remove(operated)(x), model(x))


def test_its_name_has_no_folder(file: str) -> None:
    assert import_user_blocks(f"se+{file}:Scale") == "se+mine.py:Scale"
    card = get_card("mine.py:Scale")
    assert (card.title, card.idea, card.reach) == ("Scale", "Weigh every channel by a number.", "map")
    assert [option.name for option in card.options] == ["start", "bias"]


def test_code_named_by_an_artefact_is_not_run(file: str, tmp_path: Path) -> None:
    model, x = network(), torch.randn(2, 3, 9, 9)
    save(insert(model, f"{file}:Scale", example=x, after="1"), tmp_path / "own.safetensors")
    registry._OWN.clear()
    with pytest.raises(
        BlockError, match=r"no block is called 'mine.py:Scale'; .*register_block\('mine.py:Scale', factory\)"
    ):
        load(tmp_path / "own.safetensors", model=model)
    import_user_blocks(f"{file}:Scale")
    assert torch.equal(load(tmp_path / "own.safetensors", model=model)(x), model(x))


def test_a_registered_block() -> None:
    register_block("plus", Plus, reach="channels")
    model, x = network(), torch.randn(2, 3, 9, 9)
    operated = insert(model, "plus", example=x, after="1", init="paper")
    torch.testing.assert_close(operated(x), model[2](model[1](model[0](x)) + 3))  # type: ignore[index]
    assert build_block(BlockSpec("plus"), 8, layout="NC")(torch.ones(1, 8)).shape == (1, 8)
    register_block("plus", lambda channels: nn.Identity())
    assert torch.equal(insert(model, "plus", example=x, after="1", init="paper")(x), model(x))


class Plus(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((channels, 1, 1), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def test_reach_and_inputs_of_a_factory(file: str) -> None:
    mean, fuse = import_user_blocks(f"{file}:Mean"), import_user_blocks(f"{file}:Fuse")
    assert (get_card(mean).reach, get_card(mean).inputs, get_card(fuse).inputs) == ("channels", 1, 2)
    x = torch.randn(2, 5, 8)
    assert torch.equal(build_block(BlockSpec(mean), 8, layout="NLC")(x), x)
    with pytest.raises(ValueError, match="needs a map"):
        build_block(BlockSpec(fuse), 8, layout="NLC")


@pytest.mark.parametrize("name", ["Scale", "Mean", "Fuse", "Late"])
def test_all_of_it_learns(file: str, name: str) -> None:
    module = build_block(BlockSpec.read(import_user_blocks(f"{file}:{name}"), {}), 8)
    assert still(module, torch.randn(2, 8, 5, 5)) == set()


def test_a_block_that_starts_as_the_identity_is_left_as_it_is(file: str) -> None:
    names = [name for name, _ in build_block(BlockSpec(import_user_blocks(f"{file}:Late")), 8).named_parameters()]
    assert names == ["block.weight"]


def test_a_card_lists_required_options_and_no_docstring_of_a_base_class() -> None:
    class Plain(nn.Identity):
        def __init__(self, channels: int, width: int, rate: float = 0.5) -> None:
            super().__init__()

    register_block("plain", Plain)
    card = get_card("plain")
    assert card.idea == "what its factory makes"
    assert [(option.name, option.default, option.meaning) for option in card.options] == [
        ("width", None, "it must be given"),
        ("rate", 0.5, ""),
    ]


def test_an_error_in_forward_is_reported_with_its_type() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no luck")

    register_block("failing", lambda channels: Failing())
    with pytest.raises(PlanError, match="it does not run there: ValueError: no luck"):
        insert(network(), "failing", example=torch.randn(1, 3, 9, 9), after="1")


def test_options_are_plain_values(file: str) -> None:
    name = import_user_blocks(f"{file}:anything")
    assert BlockSpec.read(name, {"start": "3", "bias": "null", "act": "relu", "on": "true"}).options == {
        "start": 3,
        "bias": None,
        "act": "relu",
        "on": True,
    }
    with pytest.raises(BlockError, match=r"no option is called 'strat'.*did you mean start\?"):
        BlockSpec.read(import_user_blocks(f"{file}:Scale"), {"strat": 1})


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("broken", "mine.py:broken cannot be built for 8 channels: RuntimeError: no luck"),
        ("empty", "mine.py:empty made a NoneType, not a module"),
        ("Pooled", r"it does not run there: its output is \(1, 8\) for \(1, 8, 7, 7\)"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(file: str, factory: str, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        insert(network(), f"{file}:{factory}", example=torch.randn(1, 3, 9, 9), after="1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("{}:Skale", "did you mean Scale"),
        ("{}/./min.py:Scale", r"there is no such file.*did you mean mine.py"),
        ("no.where:X", "there is no module"),
    ],
)
def test_code_that_is_not_there(file: str, name: str, reason: str) -> None:
    with pytest.raises(BlockError, match=reason):
        insert(
            network(),
            name.format(Path(file).parent if "/./" in name else file),
            example=torch.randn(1, 3, 9, 9),
            after="1",
        )


@pytest.mark.parametrize(
    ("name", "reach", "reason"),
    [
        ("se", "map", "a block of the catalogue is called 'se'"),
        ("a+b", "map", "invalid block name"),
        ("", "map", "invalid block name"),
        ("mine", "maps", "no reach is called 'maps'"),
    ],
)
def test_names_that_cannot_be_registered(name: str, reach: str, reason: str) -> None:
    with pytest.raises(BlockError, match=reason):
        register_block(name, Plus, reach=reach)  # type: ignore[arg-type]


def test_planning_leaves_the_random_stream_alone(file: str) -> None:
    register_block("noisy", lambda channels: nn.Conv2d(channels, channels, 1))
    model, x = network(), torch.randn(1, 3, 9, 9)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    insert(model, "noisy", example=x, after="1")
    assert torch.equal(torch.rand(3), expected)
