"""Random surgery on random networks: the identity, a training step, saving and loading, and the original again."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor, nn

from attn_surgeon import find_sites, insert, list_grafts, load, remove, save
from attn_surgeon.blocks.base.registry import block_names, get_card
from attn_surgeon.errors import BlockError, PlanError, SelectorError
from tests.fuzz.kinds import FuzzKind

_TIMM = (
    "test_vit",
    "test_convnext",
    "test_efficientnet",
    "test_byobnet",
    "test_mambaout",
    "test_resnet",
    "test_nfnet",
)


class Branches(nn.Module):
    """Add, concatenate or multiply what two branches make of a map, or take one by one."""

    def __init__(self, one: nn.Module, two: nn.Module, how: str) -> None:
        super().__init__()
        self.one, self.two, self.how = one, two, how

    def forward(self, x: Tensor) -> Tensor:
        """Return a map with the channels of x, or twice as many."""
        first, second = self.one(x), self.two(x)
        if self.how == "cat":
            return torch.cat([first, second], 1)
        made: Tensor = first * second.sigmoid() if self.how == "mul" else first + second
        return made


class InPlace(nn.Module):
    """Change what a layer made in place, several times by one shared activation."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.act = layer, nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        y: Tensor = self.layer(self.act(x.clone()))
        y += x
        if self.training:
            y = nn.functional.dropout(y, 0.1)
        made: Tensor = self.act(y)
        return made


class Classifier(nn.Module):
    """A body, a global average and a layer; its features can be asked for alone."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, 3)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map before the head."""
        made: Tensor = self.body(x)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 3)."""
        made: Tensor = self.head(self.forward_features(x).mean((2, 3)))
        return made


@st.composite
def _layers(draw: DrawFn, width: int, depth: int) -> tuple[nn.Module, int]:
    """Draw a module for maps of a width, and the width of what it makes."""
    kind = draw(st.sampled_from(["conv", "norm", "act", "branches", "inplace", "sequence", "group"]))
    if kind in ("branches", "sequence") and depth:
        if kind == "branches":
            one, two = (nn.Conv2d(width, width, size, padding=size // 2) for size in (1, 3))
            how = draw(st.sampled_from(["add", "cat", "mul"]))
            return Branches(one, two, how), width * 2 if how == "cat" else width
        return draw(_bodies(width, depth - 1))
    if kind == "inplace":
        return InPlace(nn.Conv2d(width, width, 3, padding=1)), width
    if kind == "conv":
        new, stride = draw(st.sampled_from([4, 8, 12])), draw(st.sampled_from([1, 1, 2]))
        return nn.Conv2d(width, new, 3, stride, 1), new
    if kind == "norm":
        return nn.BatchNorm2d(width), width
    if kind == "group":
        return nn.Sequential(nn.GroupNorm(2, width), nn.Conv2d(width, width, 3, padding=1, groups=2)), width
    return draw(st.sampled_from([nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.AvgPool2d(1)])), width


@st.composite
def _bodies(draw: DrawFn, width: int, depth: int) -> tuple[nn.Module, int]:
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        layer, width = draw(_layers(width, depth))
        layers.append(layer)
    return nn.Sequential(*layers), width


@st.composite
def _networks(draw: DrawFn) -> nn.Module:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    stem = nn.Conv2d(3, 8, 3, 2, 1)
    body, width = draw(_bodies(8, 2))
    return Classifier(nn.Sequential(stem, body), width)


@cache
def _timm(name: str) -> nn.Module:
    import timm

    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, num_classes=3)
    return network


@st.composite
def _draws(draw: DrawFn) -> tuple[nn.Module, tuple[str, ...], str, str, int]:
    whole = draw(st.integers(0, 7)) == 0
    network = copy.deepcopy(_timm(draw(st.sampled_from(_TIMM)))) if whole else draw(_networks())
    size = getattr(network, "default_cfg", {"input_size": (3, 32, 32)})["input_size"][-1] if whole else 32
    names = [site.name for site in find_sites(network, torch.zeros(2, 3, size, size)) if site.after or site.before]
    sites = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    block = "+".join(draw(st.lists(st.sampled_from(_blocks()), min_size=1, max_size=2)))
    return network, tuple(sites), draw(st.sampled_from(["after", "before"])), block, size


@cache
def _blocks() -> tuple[str, ...]:
    return tuple(name for name in block_names() if get_card(name).inputs == 1)


def _operate(case: tuple[nn.Module, tuple[str, ...], str, str, int]) -> None:
    network, sites, side, block, size = case
    torch.manual_seed(0)
    network.eval()
    x = torch.randn(2, 3, size, size)
    before, state = network(x), {name: value.clone() for name, value in network.state_dict().items()}
    try:
        made = insert(network, block, **{side: sites}, example=x)  # type: ignore[arg-type]
    except (BlockError, PlanError, SelectorError):
        return  # the block cannot be there, which is said
    _same(made(x), before, "the output of the operated network")
    _same_state({name: made.state_dict()[name] for name in state}, state, "the weights kept")
    _train_a_step(made, x)
    trained = made.eval()(x)
    save(made, "made.safetensors", overwrite=True)
    again = load("made.safetensors", model=network)
    _same(again(x), trained, "the output once loaded")
    _same_state(again.state_dict(), made.state_dict(), "the weights once loaded")
    _same(network(x), before, "the output of the caller's network")
    untrained = remove(insert(network, block, **{side: sites}, example=x))  # type: ignore[arg-type]
    assert not list_grafts(untrained)
    _same(untrained(x), before, "the output once removed")
    _same_state(untrained.state_dict(), state, "the weights once removed")
    assert {name: type(part) for name, part in untrained.named_modules()} == {
        name: type(part) for name, part in network.named_modules()
    }, "the classes once removed"


def _train_a_step(network: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    network.train()
    network(x).square().mean().backward()
    optimizer.step()


def _same(found: Any, expected: Any, what: str) -> None:
    assert found.shape == expected.shape, what
    assert torch.equal(found.nan_to_num(nan=7.0), expected.nan_to_num(nan=7.0)), what


def _same_state(found: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    assert found.keys() == expected.keys(), what
    for name, value in expected.items():
        _same(found[name], value, f"{what}: {name}")


def _surgery() -> SearchStrategy[Any]:
    return _draws()


KINDS = {"surgery": FuzzKind(_surgery, _operate, often=8, longest=60.0, minimised=False)}
