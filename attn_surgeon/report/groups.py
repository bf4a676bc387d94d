"""How the groups of sites look: one colour and one short word each, the same in tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping

from attn_surgeon.graph.sites import Survey
from attn_surgeon.report.outline import groups_of

COLOURS: Mapping[str, str] = {
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
    """Give a group's colour."""
    return COLOURS.get(group, "#777777")


def word(group: str) -> str:
    """Give a group's short word, for one site of it."""
    return _WORDS.get(group, group)


def members(survey: Survey) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """List each group's sites and the side of them that is meant."""
    known = getattr(survey, "groups", None)
    if known is not None:
        return dict(known)
    found: dict[str, list[tuple[str, str]]] = {}
    for site in survey.sites:
        for group in groups_of(site):
            found.setdefault(group, []).append((site.name, "after"))
    return {group: tuple(sites) for group, sites in found.items()}
