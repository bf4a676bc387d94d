"""Stages of a fine-tune: what trains for how many epochs, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from attn_surgeon.errors import nearest

WORDS = {"all": "none", "grafts": "base", "bn": "bn"}
FREEZES = ("none", "bn", "base", "until:MODULE")


@dataclass(frozen=True)
class Stage:
    """Hold what stays frozen from an epoch on up to another."""

    freeze: str
    start: int
    end: int


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Read `grafts:2,all:8`; raise ValueError with a reason where it cannot be read."""
    stages: list[Stage] = []
    for part in text.split(","):
        what, _, count = part.strip().rpartition(":")
        if not count.isdecimal() or not int(count):
            raise ValueError(f"'{part.strip()}' is no stage; write stages as grafts:2,all:8")
        start = stages[-1].end if stages else 0
        stages.append(Stage(_frozen(what), start, start + int(count)))
    return tuple(stages)


def _frozen(what: str) -> str:
    """Translate a stage's word to what it freezes."""
    if what.startswith("until:") and what != "until:":
        return what
    if what not in WORDS:
        known = ", ".join((*WORDS, "until:MODULE"))
        raise ValueError(f"'{what}' names nothing to train; {nearest(what, WORDS) or f'there are {known}'}")
    return WORDS[what]


def freeze_problem(value: str) -> str:
    """Say what is wrong with what is to be frozen."""
    if value in FREEZES[:-1] or (value.startswith("until:") and value != "until:"):
        return ""
    return f"must be one of {', '.join(FREEZES)}"


def stages_problem(text: str) -> str:
    """Say what is wrong with a plan of stages."""
    try:
        parse_stages(text)
    except ValueError as error:
        return f"cannot be read ({error})"
    return ""
