"""Compute the width of a block's hidden layers and its number of heads or groups."""

from __future__ import annotations


def hidden_width(channels: int, reduction: int, least: int = 2, given: int | None = None) -> int:
    """Return the width of a hidden layer: the given one, else C / reduction, at least `least`.

    A single unit may be inactive after the ReLU for every input, and then never has a gradient.
    """
    return given or max(least, channels // reduction)


def divisor(channels: int, given: int | None, usual: int, option: str) -> int:
    """Return the number of heads or groups: the given one, else the largest that divides the channels, up to the usual.

    Raises ValueError if the given one does not divide the channels.
    """
    if given is None:
        return next(count for count in range(min(usual, channels), 0, -1) if channels % count == 0)
    if channels % given:
        raise ValueError(f"{channels} channels are not divisible by {option}={given}")
    return given
