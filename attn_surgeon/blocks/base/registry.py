"""The registry of blocks: a card and a factory for each."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.errors import BlockError, either, function, nearest

Factory = Callable[..., nn.Module]
_CATALOGUE: dict[str, tuple[Card, Factory]] = {}
_OWN: dict[str, tuple[Card, Factory]] = {}


def register(card: Card) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Register a block class under the name of its card; raise ValueError if the name is taken."""

    def add(cls: type[nn.Module]) -> type[nn.Module]:
        if card.name in _CATALOGUE:
            raise ValueError(f"two blocks are called '{card.name}'")
        _CATALOGUE[card.name] = (card, cls)
        return cls

    return add


def register_user_block(card: Card, factory: Factory) -> None:
    """Register a user's block, replacing one of its name; raise BlockError if the catalogue has the name."""
    if card.name in _CATALOGUE:
        raise BlockError(f"a block of the catalogue is called '{card.name}'", "", "choose another name")
    _OWN[card.name] = (card, factory)


def block_names() -> list[str]:
    """Return the names of the catalogue's blocks."""
    return sorted(_CATALOGUE)


def canonical(name: str) -> str:
    """Return a block's registered name: `SE` means `se`, unless a user's block is called `SE`."""
    return name.lower() if not is_known(name) and name.lower() in _CATALOGUE else name


def is_known(name: str) -> bool:
    """Return whether a block of exactly this name is registered."""
    return name in _CATALOGUE or name in _OWN


def is_user_block(name: str) -> bool:
    """Return whether a block is a user's."""
    return name in _OWN


def get_card(name: str) -> Card:
    """Return a block's card; raise BlockError with the nearest names for an unknown one."""
    return _entry(name)[0]


def get_factory(name: str) -> Factory:
    """Return the factory of a block, which takes the channels, the options, and `init`."""
    return _entry(name)[1]


def _entry(name: str) -> tuple[Card, Factory]:
    known, found = _CATALOGUE | _OWN, canonical(name)
    if found not in known:
        raise BlockError(f"no block is called '{name}'", "", _hint(name, known))
    return known[found]


def _hint(name: str, known: dict[str, tuple[Card, Factory]]) -> str:
    if ":" in name:
        how = either(f"attn_surgeon.register_block('{name}', factory) registers it", f"--own {name} imports it")
        return f"it is a block of your own: {how}"
    if name.endswith(".py"):
        return f"write it as {name}:Factory"
    return nearest(name.lower(), known) or f"list them with: {function('blocks.block_names()', 'blocks')}"
