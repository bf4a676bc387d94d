"""Parse the stages of fine-tuning: which part is trained for how many epochs."""

from __future__ import annotations

from dataclasses import dataclass

from attn_surgeon.errors import excerpt, nearest
from attn_surgeon.validation import read_count

FREEZE_BY_NAME = {"all": "none", "grafts": "base", "bn": "bn"}
FREEZES = ("none", "bn", "base", "until:MODULE")
MOST_EPOCHS = 100_000
_MOST_STAGES = 100


@dataclass(frozen=True)
class Stage:
    """What is frozen from the epoch `start` up to the epoch `end`."""

    freeze: str
    start: int
    end: int


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Return the stages in a text such as `grafts:2,all:8`; raise ValueError if it is invalid.

    >>> parse_stages("grafts:2,all:8")
    (Stage(freeze='base', start=0, end=2), Stage(freeze='none', start=2, end=10))
    """
    stages: list[Stage] = []
    if text.count(",") >= _MOST_STAGES:
        raise ValueError(f"more than {_MOST_STAGES} stages")
    for part in text.split(","):
        name, _, count = part.strip().rpartition(":")
        epochs = read_count(count)
        if epochs is None:
            raise ValueError(f"invalid stage '{excerpt(part)}'; expected stages such as grafts:2,all:8")
        start = stages[-1].end if stages else 0
        stages.append(Stage(_freeze(name), start, start + epochs))
        if stages[-1].end > MOST_EPOCHS:
            raise ValueError(f"more than {MOST_EPOCHS:,} epochs")
    return tuple(stages)


def _freeze(name: str) -> str:
    if name.startswith("until:") and name != "until:":
        return name
    if name not in FREEZE_BY_NAME:
        known = ", ".join((*FREEZE_BY_NAME, "until:MODULE"))
        raise ValueError(f"unknown stage '{excerpt(name)}'; {nearest(name, FREEZE_BY_NAME) or f'known: {known}'}")
    return FREEZE_BY_NAME[name]


def freeze_problem(value: str) -> str:
    """Return what is wrong with a value of `freeze`, or an empty text."""
    if value in FREEZES[:-1] or (value.startswith("until:") and value != "until:"):
        return ""
    return f"must be one of {', '.join(FREEZES)}"


def stages_problem(text: str) -> str:
    """Return what is wrong with a value of `stages`, or an empty text."""
    try:
        parse_stages(text)
    except ValueError as error:
        return f"cannot be parsed ({error})"
    return ""
