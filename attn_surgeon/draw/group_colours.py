"""Colours and short names of the groups of sites, for tables and diagrams."""

from __future__ import annotations

from collections.abc import Mapping

GROUP_COLOURS: Mapping[str, str] = {
    "stages": "#2f6db5",
    "blocks": "#3c8d40",
    "residual": "#d97706",
    "head": "#8b5fbf",
    "convs": "#8d6e63",
    "upsamples": "#0f9b8e",
    "skips": "#b59b00",
    "fusions": "#c2527a",
}
GRAFT = "#d6006c"
_WORDS = {
    "stages": "stage",
    "blocks": "block",
    "convs": "conv",
    "upsamples": "up",
    "skips": "skip",
    "fusions": "fusion",
}


def colour(group: str) -> str:
    """Return the colour of a group as hexadecimal RGB."""
    return GROUP_COLOURS.get(group, "#777777")


def word(group: str) -> str:
    """Return the short name of a group, in the singular, for labels."""
    return _WORDS.get(group, group)
