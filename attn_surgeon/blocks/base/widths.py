"""How wide a block's inner layers are, for any number of channels."""

from __future__ import annotations


def hidden_width(channels: int, reduction: int, least: int = 2) -> int:
    """Divide channels by the reduction, but keep two: a lone unit may be off for every input and never learn."""
    return max(least, channels // reduction)


def divisor(channels: int, given: int | None, usual: int, option: str) -> int:
    """Give the number of heads or groups: the one that was given, else the largest that divides, up to the usual.

    Raises ValueError where the one that was given does not divide the channels.
    """
    if given is None:
        return next(count for count in range(min(usual, channels), 0, -1) if channels % count == 0)
    if channels % given:
        raise ValueError(f"it has {channels} channels, which {option}={given} does not divide")
    return given
