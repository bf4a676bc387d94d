"""The registry of blocks: a card for each, and the class that makes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from attn_surgeon.errors import BlockError, nearest


@dataclass(frozen=True)
class Option:
    """One option of a block: its default, its range, and what it does."""

    name: str
    default: int | float | str | None
    meaning: str
    minimum: float | None = None
    choices: tuple[str, ...] = ()
    odd: bool = False

    def read(self, value: Any, block: str) -> int | float | str | None:
        """Turn text or a number into a value of this option; raise BlockError where it is out of range."""
        if value is None and self.default is None:
            return None
        kind = str if self.choices else type(self.default) if self.default is not None else int
        try:
            result = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong(value, block, f"it takes {_ARTICLES[kind]}") from None
        inexact = isinstance(value, float) and result != value
        if inexact or isinstance(value, bool) or (isinstance(result, float) and not math.isfinite(result)):
            raise self._wrong(value, block, f"it takes {_ARTICLES[kind]}")
        if self.choices and result not in self.choices:
            raise self._wrong(value, block, f"it takes one of {', '.join(self.choices)}")
        if self.minimum is not None and not isinstance(result, str) and result < self.minimum:
            raise self._wrong(value, block, f"the smallest is {self.minimum:g}")
        if self.odd and isinstance(result, int) and result % 2 == 0:
            raise self._wrong(value, block, "it takes an odd number")
        return result

    def _wrong(self, value: Any, block: str, reason: str) -> BlockError:
        return BlockError(
            f"option {self.name}={value} is out of range: {reason}",
            f"block '{block}'",
            f"see: attn-surgeon blocks {block}",
        )


_ARTICLES: Mapping[type, str] = {int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Card:
    """What the catalogue tells of a block.

    `spatial` blocks tell positions apart, so they need a map of more than one; the others only pool over it. A block
    of two `inputs` takes two maps of one shape, and its output is shaped like them.
    """

    name: str
    title: str
    paper: str
    idea: str
    formula: str
    identity: str
    parameters: str
    macs: str
    usual_sites: str
    spatial: bool
    inputs: int = 1
    options: tuple[Option, ...] = ()

    def read_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check options against the card; raise BlockError for an unknown one or a value out of range."""
        known = {option.name: option for option in self.options}
        for name in given:
            if name not in known:
                hint = nearest(name, known) or f"it has {', '.join(known) or 'no options'}"
                raise BlockError(f"no option is called '{name}'", f"block '{self.name}'", hint)
        return {name: known[name].read(value, self.name) for name, value in given.items()}


_REGISTRY: dict[str, tuple[Card, type[nn.Module]]] = {}


def register(card: Card) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter a block class under its card; raise ValueError where the name is taken."""

    def enter(cls: type[nn.Module]) -> type[nn.Module]:
        if card.name in _REGISTRY:
            raise ValueError(f"two blocks are called '{card.name}'")
        _REGISTRY[card.name] = (card, cls)
        return cls

    return enter


def names() -> list[str]:
    """List the names of all blocks."""
    return sorted(_REGISTRY)


def get_card(name: str) -> Card:
    """Give a block's card; raise BlockError with the nearest names where there is none."""
    return _entry(name)[0]


def get_class(name: str) -> type[nn.Module]:
    """Give a block's class."""
    return _entry(name)[1]


def _entry(name: str) -> tuple[Card, type[nn.Module]]:
    if name not in _REGISTRY:
        hint = nearest(name, _REGISTRY) or "list them with: attn-surgeon blocks"
        raise BlockError(f"no block is called '{name}'", "", hint)
    return _REGISTRY[name]
