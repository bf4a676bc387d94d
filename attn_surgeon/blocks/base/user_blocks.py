"""Register the user's own blocks, which are made the identity at first by x + γ(f − x) with γ = 0.

A block that is the identity by itself at first is used as it is.
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
from attn_surgeon.blocks.base.registry import Factory, register_user_block
from attn_surgeon.errors import BlockError
from attn_surgeon.user_code import found, is_file, one_line

Reach = Literal["channels", "positions", "map"]


class OutputShapeError(ValueError):
    """Report a block whose output is not shaped like its input."""


class UserBlock(nn.Module):
    """Run a user's block on (N, C, H, W) features, and combine features and output by a gate.

    Raises OutputShapeError if its output is not shaped like the features.
    """

    def __init__(self, block: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.block, self.outer = block, gate

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return features of the same shape."""
        made = self.block(x, *others)
        if not isinstance(made, Tensor) or made.shape != x.shape:
            shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise OutputShapeError(
                f"its output is {shape} for {tuple(x.shape)}, and a block's output is shaped like its input"
            )
        return self.outer(x, made)


class UserGate(Gate):
    """The gate of a user's block that is the identity by itself at first.

    The parameters that close it were found by drawing the others at random.
    """

    formula = "y = f(x)"
    closes_all = True

    def __init__(self, closing: Mapping[str, float]) -> None:
        super().__init__("paper", self, ())
        self.closing, self.count = dict(closing), len(closing)

    def closing_parameters(self, owner: nn.Module) -> list[Closing]:
        """Return the parameters that make the block the identity, each with its value when closed."""
        known = dict(owner.named_parameters())
        return [(known[name], value) for name, value in self.closing.items() if name in known]

    def forward(self, x: Tensor, made: Tensor) -> Tensor:
        """Return the block's output in the precision of x."""
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
        raise BlockError(f"the factory of a block must be callable, not a {type(factory).__name__}", f"block '{name}'")
    if not name or {"+", "/", " "} & set(name):
        raise BlockError(f"invalid block name '{name}'", "", "use one without +, / and spaces, such as mine")
    if reach not in REACHES:
        raise BlockError(f"no reach is called '{reach}'", f"block '{name}'", f"it is one of {', '.join(REACHES)}")
    register_user_block(_card(name, factory, reach, inputs), _checked_factory(name, factory, inputs))


def import_user_blocks(name: str) -> str:
    """Import the code that `file.py:FACTORY` or `package.module:FACTORY` names; return the block's name.

    In a stack, the code of each block is imported; names of the catalogue are returned as they are. The block's name
    has the file's name without its folder, so that it is the same on other machines. Attributes `reach` and `inputs` of
    a factory are used if it has them.
    """
    return "+".join(import_user_block("", part) if ":" in part else part for part in name.split("+"))


@torch.no_grad()
def require_runs(block: nn.Module, *shapes: tuple[int, ...]) -> None:
    """Raise ValueError with the reason unless a user's block runs on zeros of these shapes."""
    was_training = block.training
    try:
        block.eval()(*[torch.zeros(shape) for shape in shapes])
    except Exception as error:
        raise ValueError(
            f"it does not run there: {error if isinstance(error, OutputShapeError) else one_line(error)}"
        ) from error
    finally:
        block.train(was_training)


def import_user_block(name: str, place: str) -> str:
    """Import a factory and register it under a name, or under its own; return the name."""
    with found(place, BlockError) as factory:
        name = name or _portable_name(place)
        reach = cast(Reach, getattr(factory, "reach", "map"))
        register_block(name, factory, reach=reach, inputs=2 if getattr(factory, "inputs", 1) == 2 else 1)
    return name


def _portable_name(place: str) -> str:
    file, _, factory = place.rpartition(":")
    return f"{Path(file).name}:{factory}" if is_file(place) else place


def _checked_factory(name: str, factory: Factory, inputs: int) -> Factory:
    def make(channels: int, *, init: str = "identity", **options: Any) -> nn.Module:
        try:
            block = factory(channels, **options)
        except Exception as error:
            raise ValueError(f"{name} cannot be built for {channels} channels: {one_line(error)}") from error
        if not isinstance(block, nn.Module):
            raise ValueError(f"{name} made a {type(block).__name__}, not a module")  # noqa: TRY004  a refusal, not a fault
        if not _is_identity(block, channels, inputs):
            return UserBlock(block, Blend(channels, init))
        closing = _closing_values(block, channels, inputs)
        return UserBlock(block, UserGate({f"block.{key}": value for key, value in closing.items()}))

    return make


@torch.no_grad()
def _is_identity(block: nn.Module, channels: int, inputs: int) -> bool:
    """Return whether a block is the identity by itself; with γ = 0 as well, no parameter would have a gradient."""
    was_training = block.training
    with torch.random.fork_rng(devices=[]):
        maps = torch.randn(inputs, 2, channels, 7, 7)
        try:
            return torch.equal(block.eval()(*maps), maps[0])
        except Exception:  # it may need another size; whether it runs at its site is checked later
            return False
        finally:
            block.train(was_training)


def _closing_values(block: nn.Module, channels: int, inputs: int) -> dict[str, float]:
    """Return the parameters, all zero or all one, that make a block the identity whatever the others are."""
    closing = {
        name: value
        for name, parameter in block.named_parameters()
        for value in (0.0, 1.0)
        if parameter.numel() and bool((parameter == value).all())
    }
    if not _stays_identity(block, closing, channels, inputs):
        return {}
    for name in list(closing):  # the last layers are most likely to close it
        fewer = {key: value for key, value in closing.items() if key != name}
        if fewer and _stays_identity(block, fewer, channels, inputs):
            closing = fewer
    return closing


@torch.no_grad()
def _stays_identity(block: nn.Module, closing: Mapping[str, float], channels: int, inputs: int) -> bool:
    tried = copy.deepcopy(block).float()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in tried.named_parameters():
        if name not in closing:
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn / math.sqrt(parameter[0].numel() if parameter.ndim else 1))
    return _is_identity(tried, channels, inputs)


def _card(name: str, factory: Factory, reach: Reach, inputs: int) -> Card:
    documented = inspect.cleandoc(factory.__doc__ or "")  # not inspect.getdoc, which returns that of a base class
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
