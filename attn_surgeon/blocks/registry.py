"""The registry of blocks: a card for each, and the class that makes it."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from attn_surgeon.blocks.card import Card
from attn_surgeon.errors import BlockError, nearest

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
