"""Compare two networks on the same images: who is right where, and what that allows one to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.answers import Answers
from attn_surgeon.evaluate.statistics import Interval, exact_interval, image_interval, mcnemar, verdict

HOW = "McNemar's exact, over images"


@dataclass(frozen=True)
class Rivals:
    """Name two networks that are compared; `second` is None for the first one without its grafts."""

    first: str
    second: str | None

    @property
    def cause(self) -> str:
        """Say what a difference comes from; of grafts that were trained, taking them out tells no more than this."""
        return "from leaving the grafts in" if self.second is None else f"of {self.first} over {self.second}"

    @property
    def scope(self) -> str:
        """Say how far a difference can be trusted."""
        control = "; what the same training gives without grafts, finetune --control shows"
        return "for these weights only" + (
            control if self.second is None else ", which says nothing of other trainings"
        )


@dataclass(frozen=True)
class Paired:
    """Hold what two networks get right of the same images; shares, and a difference with its interval."""

    images: int
    first: float
    second: float
    only_first: int
    only_second: int
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """Hold two networks side by side: over all images, over each class, and image by image.

    The interval over all images is the one that belongs to McNemar's test, whose p-value is `p`; the intervals of the
    classes hold for each class alone: of twenty, one is expected to miss. `only_first` and `only_second` number the
    images that one network alone gets right.
    """

    difference: Interval
    p: float
    classes: dict[str, Paired]
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]
    verdict: str


def compare(first: Answers, second: Answers, class_names: Sequence[str], rivals: Rivals) -> Comparison:
    """Compare the answers of two networks to the same images."""
    ours, theirs = _places(first.right & ~second.right), _places(second.right & ~first.right)
    difference = exact_interval(len(ours), len(theirs), len(first.labels))
    members = {name: first.labels == label for label, name in enumerate(class_names)}
    classes = {name: paired(first.right[own], second.right[own]) for name, own in members.items() if bool(own.any())}
    said = verdict(difference, f"{rivals.cause} on these images", rivals.scope)
    return Comparison(difference, mcnemar(len(ours), len(theirs)), classes, ours, theirs, said)


def paired(first: Tensor, second: Tensor) -> Paired:
    """Compare what two networks get right (N,)."""
    shares = float(first.double().mean()), float(second.double().mean())
    only = int((first & ~second).sum()), int((second & ~first).sum())
    return Paired(len(first), *shares, *only, image_interval((first.double() - second.double()).tolist()))


def require_same_classes(first: LoadedNetwork, second: LoadedNetwork) -> None:
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
