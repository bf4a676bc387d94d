"""Register the user's own blocks, which start as the identity by x + γ(f − x) with γ = 0.

A block that starts as the identity by itself is left as it is.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import REACHES, Card, Option
from attn_surgeon.blocks.base.gate import Blend, Closing, Gate
from attn_surgeon.blocks.base.registry import Factory, enter_own
from attn_surgeon.errors import BlockError
from attn_surgeon.user_code import found, is_file, one_line

Reach = Literal["channels", "positions", "map"]


class MisshapenError(ValueError):
    """Report a block whose output is not shaped like its input."""


class UserBlock(nn.Module):
    """Run a user's block on (N, C, H, W) features, and combine features and output by a gate.

    Raises MisshapenError if its output is not shaped like the features.
    """

    def __init__(self, block: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.block, self.outer = block, gate

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return features of the same shape."""
        made = self.block(x, *others)
        if not isinstance(made, Tensor) or made.shape != x.shape:
            shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise MisshapenError(
                f"it gives {shape} for {tuple(x.shape)}, and a block's output is shaped like its input"
            )
        return self.outer(x, made)


class UserGate(Gate):
    """The gate of a block that starts as the identity by itself, known by what its parameters are then.

    Those that close it were found by giving the others values at random.
    """

    formula = "y = f(x)"
    closes_all = True

    def __init__(self, closing: Mapping[str, float]) -> None:
        super().__init__("paper", self, ())
        self.closing, self.count = dict(closing), len(closing)

    def closing_parameters(self, owner: nn.Module) -> list[Closing]:
        """Return the parameters that make the block the identity, each with its value then."""
        known = dict(owner.named_parameters())
        return [(known[name], value) for name, value in self.closing.items() if name in known]

    def forward(self, x: Tensor, made: Tensor) -> Tensor:
        """Return what the block made, in the precision of x."""
        return made.to(x.dtype)


def register_block(name: str, factory: Factory, *, reach: Reach = "map", inputs: Literal[1, 2] = 1) -> None:
    """Register a block of your own under a name that `insert` takes.

    The block need not start as the identity: what it returns, f(x), is blended in as x + γ(f(x) - x) with γ = 0. One
    that is the identity by itself is used as it is. Registering a name again replaces the block.

    Args:
        name: the name; one that no block of the catalogue has.
        factory: a class or function; `factory(channels, **options)` returns a module that takes (N, C, H, W), and with
            two `inputs` a second map of that shape, and returns the same shape.
        reach: what the block needs to know of positions: `"channels"` if it only pools over them, `"positions"` if it
            needs several but no height and width, `"map"` if it needs (H, W).
        inputs: the number of maps that the block takes.

    Raises:
        BlockError: the factory cannot be called, or the name or the reach is invalid.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> class Scale(torch.nn.Module):
        ...     def __init__(self, channels, start=0.5):
        ...         super().__init__()
        ...         self.weight = torch.nn.Parameter(torch.full((channels, 1, 1), start))
        ...     def forward(self, x):
        ...         return x * self.weight
        >>> attn_surgeon.register_block("scale", Scale, reach="channels")
        >>> network, x = load_demo(), torch.randn(1, 1, 32, 32)
        >>> operated = attn_surgeon.insert(network, "scale", after="layer3", example=x, options={"start": 0.9})
        >>> torch.equal(operated(x), network(x))
        True
    """
    if not callable(factory):
        raise BlockError(f"a block is made by something to call, not by a {type(factory).__name__}", f"block '{name}'")
    if not name or {"+", "/", " "} & set(name):
        raise BlockError(f"'{name}' is no name for a block", "", "such as: mine")
    if reach not in REACHES:
        raise BlockError(f"no reach is called '{reach}'", f"block '{name}'", f"it is one of {', '.join(REACHES)}")
    enter_own(_card(name, factory, reach, inputs), _maker(name, factory, inputs))


def adopt(name: str) -> str:
    """Import the code that `file.py:FACTORY` or `package.module:FACTORY` names; return the block's name.

    Parts of a stack are adopted each; names of the catalogue stay as they are. The name keeps the file's own name
    and no folder, so that it is the same elsewhere. A factory's attributes `reach` and `inputs` count, if it has them.
    """
    return "+".join(adopt_as("", part) if ":" in part else part for part in name.split("+"))


@torch.no_grad()
def probe(block: nn.Module, *shapes: tuple[int, ...]) -> None:
    """Run a user's block on zeros of these shapes; raise ValueError with the reason if that fails."""
    was_training = block.training
    try:
        block.eval()(*[torch.zeros(shape) for shape in shapes])
    except Exception as error:
        raise ValueError(
            f"it does not run there: {error if isinstance(error, MisshapenError) else one_line(error)}"
        ) from error
    finally:
        block.train(was_training)


def adopt_as(name: str, place: str) -> str:
    """Import a factory and register it under a name, or under its own; return the name."""
    with found(place, BlockError) as factory:
        name = name or _own_name(place)
        reach = cast(Reach, getattr(factory, "reach", "map"))
        register_block(name, factory, reach=reach, inputs=2 if getattr(factory, "inputs", 1) == 2 else 1)
    return name


def _own_name(place: str) -> str:
    file, _, factory = place.rpartition(":")
    return f"{Path(file).name}:{factory}" if is_file(place) else place


def _maker(name: str, factory: Factory, inputs: int) -> Factory:
    def make(channels: int, *, init: str = "identity", **options: Any) -> nn.Module:
        try:
            block = factory(channels, **options)
        except Exception as error:
            raise ValueError(f"{name} cannot be made for {channels} channels: {one_line(error)}") from error
        if not isinstance(block, nn.Module):
            raise ValueError(f"{name} made a {type(block).__name__}, not a module")  # noqa: TRY004  a refusal, not a fault
        if not _passes_on(block, channels, inputs):
            return UserBlock(block, Blend(channels, init))
        closing = _closing_values(block, channels, inputs)
        return UserBlock(block, UserGate({f"block.{key}": value for key, value in closing.items()}))

    return make


@torch.no_grad()
def _passes_on(block: nn.Module, channels: int, inputs: int) -> bool:
    """Return whether a block starts as the identity by itself: then γ = 0 as well would leave nothing that learns."""
    was_training = block.training
    with torch.random.fork_rng(devices=[]):
        maps = torch.randn(inputs, 2, channels, 7, 7)
        try:
            return torch.equal(block.eval()(*maps), maps[0])
        except Exception:  # it may need another size; that it runs where it is to go is tried later
            return False
        finally:
            block.train(was_training)


def _closing_values(block: nn.Module, channels: int, inputs: int) -> dict[str, float]:
    """Return the parameters, all zero or all one, that keep a block the identity whatever the others are."""
    closing = {
        name: value
        for name, parameter in block.named_parameters()
        for value in (0.0, 1.0)
        if parameter.numel() and bool((parameter == value).all())
    }
    if not _holds(block, closing, channels, inputs):
        return {}
    for name in list(closing):  # the later ones are the more likely to close it
        fewer = {key: value for key, value in closing.items() if key != name}
        if fewer and _holds(block, fewer, channels, inputs):
            closing = fewer
    return closing


@torch.no_grad()
def _holds(block: nn.Module, closing: Mapping[str, float], channels: int, inputs: int) -> bool:
    tried = copy.deepcopy(block).float()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in tried.named_parameters():
        if name not in closing:
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn / math.sqrt(parameter[0].numel() if parameter.ndim else 1))
    return _passes_on(tried, channels, inputs)


def _card(name: str, factory: Factory, reach: Reach, inputs: int) -> Card:
    documented = inspect.cleandoc(factory.__doc__ or "")  # not inspect.getdoc, which gives a class its base's
    return Card(
        name=name,
        title=getattr(factory, "__name__", type(factory).__name__),
        paper="your own",
        idea=documented.partition("\n")[0] or "what its factory makes",
        formula="y = x + γ(f(x) - x)",
        identity="γ = 0 for each channel",
        parameters="those of f + C",
        macs="those of f",
        usual_sites="where you like",
        kind="two inputs" if inputs == 2 else "both",
        reach=reach,
        options=_options(factory),
        open=_takes_anything(factory),
    )


def _options(factory: Factory) -> tuple[Option, ...]:
    given = [p for p in list(_parameters(factory).values())[1:] if p.kind not in _OPEN]
    return tuple(_option(p) for p in given)


def _option(given: inspect.Parameter) -> Option:
    if given.default is given.empty:
        return Option(given.name, None, "it must be given", free=True)
    return Option(given.name, cast(Any, given.default), "", free=True)


def _takes_anything(factory: Factory) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in _parameters(factory).values())


def _parameters(factory: Factory) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # built-in callables may have no signature
        return {"channels": inspect.Parameter("channels", _POSITIONAL), "options": inspect.Parameter("options", _ANY)}


_POSITIONAL, _ANY = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_KEYWORD
_OPEN = (_ANY, inspect.Parameter.VAR_POSITIONAL)
