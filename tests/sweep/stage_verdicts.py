"""Why timm's features and the `stages` group name different maps, where they do."""

from __future__ import annotations

from collections.abc import Mapping

OPEN = "no verdict"
Level = tuple[int, int, str]


def verdict(
    family: str, name: str, stride: int, theirs: Level | None, ours: Level | None, levels: Mapping[int, Level]
) -> str:
    """Give the reason of a disagreement at one stride."""
    return OPEN
