"""Two networks on the same images: who is right where, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.answers import Answers
from attn_surgeon.evaluate.compare import Rivals, compare, require_same_classes
from attn_surgeon.evaluate.statistics import exact_interval, image_interval, mcnemar

from ..finetune.helpers import loaded

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
FIRST = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0])  # right: all of class 0, three of class 1
SECOND = torch.tensor([0, 1, 1, 1, 0, 0, 1, 0])  # right: one of class 0, two of class 1


def answers(predicted: torch.Tensor, repeat: int = 1) -> Answers:
    count = repeat * len(LABELS)
    return Answers(LABELS.repeat(repeat), predicted.repeat(repeat), torch.ones(count).double())


def test_a_comparison_by_hand() -> None:
    found = compare(answers(FIRST), answers(SECOND), ("ant", "bee", "none here"), Rivals("a", "b"))
    assert (found.only_first, found.only_second) == ((1, 2, 4, 5), (6,))
    assert found.difference == exact_interval(4, 1, 8)
    assert found.p == mcnemar(4, 1)
    assert list(found.classes) == ["ant", "bee"]
    ant, bee = found.classes["ant"], found.classes["bee"]
    assert (ant.images, ant.first, ant.second, ant.only_first, ant.only_second) == (3, 1.0, 1 / 3, 2, 0)
    assert (bee.images, bee.first, bee.second, bee.only_first, bee.only_second) == (5, 3 / 5, 2 / 5, 2, 1)
    assert ant.difference == image_interval([0, 1, 1])
    assert bee.difference == image_interval([0, 1, 1, -1, 0])


def test_the_sentence_names_what_was_compared_and_claims_no_more() -> None:
    few = compare(answers(FIRST), answers(SECOND), ("ant", "bee"), Rivals("a", "b"))
    assert few.verdict.startswith("The evidence shows neither a gain nor a loss of a over b on these images")
    many = compare(answers(FIRST, 50), answers(SECOND, 50), ("ant", "bee"), Rivals("a", None))
    assert many.verdict.startswith(
        "The evidence shows a gain from leaving the grafts in on these images (+37.50 points"
    )
    assert few.verdict.endswith("for these weights only, which says nothing of other trainings.")
    assert "finetune --control" in many.verdict
    turned = compare(answers(SECOND, 50), answers(FIRST, 50), ("ant", "bee"), Rivals("a", None))
    assert turned.verdict.startswith("The evidence shows a loss from leaving the grafts in")


def with_names(names: tuple[str, ...] | None) -> LoadedNetwork:
    other = loaded()
    set_provenance(other.model, replace(other.provenance, class_names=names))
    return other


def test_other_class_names_are_refused() -> None:
    digits = loaded()
    require_same_classes(digits, digits)
    require_same_classes(digits, with_names(None))
    for names, shown in ((("0", "one", *"23456789"), "first 1 and one"), (("0", "1"), "10 and 2 of them")):
        with pytest.raises(DataError, match=shown):
            require_same_classes(digits, with_names(names))
