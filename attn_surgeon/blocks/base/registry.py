"""The registry of blocks: a card for each, and what makes it."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.errors import BlockError, nearest

Factory = Callable[..., nn.Module]
_CATALOGUE: dict[str, tuple[Card, Factory]] = {}
_OWN: dict[str, tuple[Card, Factory]] = {}


def register(card: Card) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter a block class under its card; raise ValueError where the name is taken."""

    def enter(cls: type[nn.Module]) -> type[nn.Module]:
        if card.name in _CATALOGUE:
            raise ValueError(f"two blocks are called '{card.name}'")
        _CATALOGUE[card.name] = (card, cls)
        return cls

    return enter


def enter_own(card: Card, factory: Factory) -> None:
    """Enter a user's block, in place of one that had its name; raise BlockError where the catalogue has it."""
    if card.name in _CATALOGUE:
        raise BlockError(f"a block of the catalogue is called '{card.name}'", "", "choose another name")
    _OWN[card.name] = (card, factory)


def names() -> list[str]:
    """List the names of the catalogue's blocks."""
    return sorted(_CATALOGUE)


def is_known(name: str) -> bool:
    """Tell whether a block of this name is there."""
    return name in _CATALOGUE or name in _OWN


def is_own(name: str) -> bool:
    """Tell whether a block is a user's."""
    return name in _OWN


def get_card(name: str) -> Card:
    """Give a block's card; raise BlockError with the nearest names where there is none."""
    return _entry(name)[0]


def get_factory(name: str) -> Factory:
    """Give what makes a block: it takes the channels, the options, and `init`."""
    return _entry(name)[1]


def _entry(name: str) -> tuple[Card, Factory]:
    known = _CATALOGUE | _OWN
    if name not in known:
        raise BlockError(f"no block is called '{name}'", "", _way_on(name, known))
    return known[name]


def _way_on(name: str, known: dict[str, tuple[Card, Factory]]) -> str:
    if ":" in name:
        return f"it is a block of your own: --own {name} says where its code is, in Python register_block('{name}', …)"
    if name.endswith(".py"):
        return f"write it as {name}:Factory"
    return nearest(name.lower(), known) or "list them with: attn-surgeon blocks"
