"""Compare two networks on the same images: who is right where, and what that allows one to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from attn_surgeon.errors import DataError
from attn_surgeon.subject import Subject
from attn_surgeon.train.answers import Answers
from attn_surgeon.train.statistics import Interval, exact_interval, mcnemar, verdict

HOW = "McNemar's exact, over images"
SCOPE = "for these weights only, which says nothing of other trainings"


@dataclass(frozen=True)
class Rivals:
    """Name two networks that are compared; `second` is None for the first one without its grafts."""

    first: str
    second: str | None

    @property
    def cause(self) -> str:
        """Say what a difference comes from."""
        return "from the grafts" if self.second is None else f"of {self.first} over {self.second}"


@dataclass(frozen=True)
class Paired:
    """Hold what two networks get right of the same images; shares, and a difference with its interval."""

    name: str
    images: int
    first: float
    second: float
    only_first: int
    only_second: int
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """Hold two networks side by side: over all images, over each class, and image by image.

    `only_first` and `only_second` number the images that one of them alone gets right. The intervals of the classes
    hold for each class alone: of twenty, one is expected to miss.
    """

    total: Paired
    p: float
    classes: tuple[Paired, ...]
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]
    verdict: str


def compare(first: Answers, second: Answers, class_names: Sequence[str], rivals: Rivals) -> Comparison:
    """Compare the answers of two networks to the same images."""
    total = paired("all", first.right, second.right)
    members = [first.labels == label for label in range(len(class_names))]
    classes = tuple(
        paired(name, first.right[own], second.right[own])
        for name, own in zip(class_names, members, strict=True)
        if bool(own.any())
    )
    return Comparison(
        total,
        mcnemar(total.only_first, total.only_second),
        classes,
        _places(first.right & ~second.right),
        _places(second.right & ~first.right),
        verdict(total.difference, f"{rivals.cause} on these images", SCOPE),
    )


def paired(name: str, first: Tensor, second: Tensor) -> Paired:
    """Compare what two networks get right (N,)."""
    images = len(first)
    ours, theirs = int((first & ~second).sum()), int((second & ~first).sum())
    shares = float(first.sum()) / images, float(second.sum()) / images
    return Paired(name, images, *shares, ours, theirs, exact_interval(ours, theirs, images))


def require_same_classes(first: Subject, second: Subject) -> None:
    """Refuse two networks that name their classes differently."""
    own, other = first.provenance.class_names, second.provenance.class_names
    if own is None or other is None or tuple(own) == tuple(other):
        return
    differing = [f"{mine} and {theirs}" for mine, theirs in zip(own, other, strict=False) if mine != theirs]
    shown = f"first {differing[0]}" if differing else f"{len(own)} and {len(other)} of them"
    what = f"the networks name their classes differently: {shown}"
    raise DataError(what, "--compare", "compare networks that were trained on the same classes")


def _places(chosen: Tensor) -> tuple[int, ...]:
    return tuple(chosen.nonzero().flatten().tolist())
