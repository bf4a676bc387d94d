"""Two networks on the same images: who is right where, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.data.images import ImageData
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.assess import open_for_networks
from attn_surgeon.evaluate.compare import ComparedNames, compare_scores, require_comparable
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import Score
from attn_surgeon.tasks.predictions import Predictions
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.statistics import image_interval, mcnemar

from ..data.cells import loaded as segmenter
from ..data.cells import write
from ..finetune.helpers import loaded
from ..tasks.test_accuracy import Rows

CLASSIFICATION, SEGMENTATION = get_task("classification"), get_task("segmentation")
LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
FIRST = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0])  # right: all of class 0, three of class 1
SECOND = torch.tensor([0, 1, 1, 1, 0, 0, 1, 0])  # right: one of class 0, two of class 1


def score(predicted: Tensor, repeat: int = 1, sha256: str = "") -> Score:
    count = repeat * len(LABELS)
    predictions = Predictions(LABELS.repeat(repeat), predicted.repeat(repeat), torch.ones(count).double())
    outcomes = tuple(predictions.correct.double().tolist())
    return Score(sum(outcomes) / count, 0.1, outcomes, {}, sha256 or str(predicted), predictions)


def named(count: int, class_names: Sequence[str]) -> ImageData:
    """Return data whose images are called by their index."""
    from attn_surgeon.data.corrupted import LabelledImages
    from attn_surgeon.data.subsets import ImageSubset
    from attn_surgeon.networks.demo import DEMO_PREPROCESSING

    return ImageData(ImageSubset(LabelledImages(Rows(count), DEMO_PREPROCESSING), range(count)), tuple(class_names))


def test_a_comparison_by_hand() -> None:
    found = compare_scores(CLASSIFICATION, score(FIRST), score(SECOND), ComparedNames("a", "b"))
    assert {name: found["difference"][name] for name in ("estimate", "low", "high")} == vars(
        image_interval([0, 1, 1, 0, 1, 1, -1, 0])
    )
    assert found["mcnemar"] == {"only_first": 4, "only_second": 1, "p": mcnemar(4, 1)}
    details = CLASSIFICATION.compare_details(score(FIRST), score(SECOND), named(8, ("ant", "bee", "none here")))
    assert (details["only_first"], details["only_second"]) == ([1, 2, 4, 5], [6])
    ant, bee = details["class_differences"]
    assert [ant[name] for name in ("name", "images", "first", "second", "only_first", "only_second")] == [
        "ant",
        3,
        1.0,
        1 / 3,
        2,
        0,
    ]
    assert [bee[name] for name in ("name", "images", "first", "second", "only_first", "only_second")] == [
        "bee",
        5,
        3 / 5,
        2 / 5,
        2,
        1,
    ]
    assert ant["difference"] == vars(image_interval([0, 1, 1]))
    assert bee["difference"] == vars(image_interval([0, 1, 1, -1, 0]))


def test_the_sentence_names_what_was_compared_and_claims_no_more() -> None:
    def sentence(first: Score, second: Score, names: ComparedNames) -> str:
        return str(compare_scores(CLASSIFICATION, first, second, names)["verdict"])

    few = sentence(score(FIRST), score(SECOND), ComparedNames("a", "b"))
    assert few.startswith(
        "The evidence does not show whether a scores higher or lower than b on images like these (+37.50 points"
    )
    many = sentence(score(FIRST, 50), score(SECOND, 50), ComparedNames("a", None))
    assert many.startswith(
        "The evidence shows that a with its grafts scores higher than without them on images like these (+37.50 points"
    )
    assert few.endswith("8 images). This holds for these weights, not for other training runs.")
    assert "this is no control" in many
    turned = sentence(score(SECOND, 50), score(FIRST, 50), ComparedNames("a", None))
    assert turned.startswith(
        "The evidence shows that a with its grafts scores lower than without them on images like these (-37"
    )
    same = sentence(score(FIRST, sha256="x"), score(FIRST, sha256="x"), ComparedNames("a", "b"))
    assert same.endswith("no difference can be measured.")


def test_the_difference_of_masks_is_in_the_metric_and_not_in_the_mean_over_images() -> None:
    values = [((0.5, 0.6, 0.9, 0.7), (0.8, 0.7, 0.6, 0.5)), ((0.4, 0.6, 0.8, 0.3), (0.7, 0.7, 0.6, 0.4))]
    first, second = (Score(0.65, 0.1, outcomes, pseudo_values=by_image) for outcomes, by_image in values)
    found = compare_scores(SEGMENTATION, first, second, ComparedNames("a", "b"))
    assert found["difference"]["estimate"] == pytest.approx(0.05)
    # of 0.1, 0, 0, 0.1 and two images more, 0.1 and -0.1: mean 0.2 / 6, t at 5 degrees of freedom
    reach = 2.570582 * ((0.04 - 0.2**2 / 6) / 5 / 6) ** 0.5
    assert found["difference"]["low"] == pytest.approx(0.2 / 6 - reach, abs=1e-6)
    assert found["difference"]["high"] == pytest.approx(0.2 / 6 + reach, abs=1e-6)
    assert (found["wilcoxon"]["better"], found["wilcoxon"]["worse"]) == (3, 0)
    assert "does not show whether a scores higher or lower than b" in found["verdict"]


def test_networks_with_equal_scores_on_masks_are_reported_as_equal() -> None:
    one = Score(0.7, 0.1, (0.5, 0.6))
    assert compare_scores(SEGMENTATION, one, one, ComparedNames("a", "b"))["verdict"].endswith(
        "no difference can be measured."
    )
    other = Score(0.7, 0.2, (0.5, 0.6))
    assert "does not show" in compare_scores(SEGMENTATION, one, other, ComparedNames("a", "b"))["verdict"]


def with_names(network: LoadedNetwork, names: tuple[str, ...] | None) -> LoadedNetwork:
    set_provenance(network.model, replace(network.provenance, class_names=names))
    return network


def test_other_class_names_are_refused() -> None:
    digits = loaded()
    require_comparable(CLASSIFICATION, [digits, digits])
    require_comparable(CLASSIFICATION, [digits, with_names(loaded(), None)])
    for names, shown in ((("0", "one", *"23456789"), "first 1 and one"), (("0", "1"), "10 and 2 of them")):
        with pytest.raises(DataError, match=shown):
            require_comparable(CLASSIFICATION, [digits, with_names(loaded(), names)])


def test_networks_with_other_outputs_are_not_compared() -> None:
    digits = loaded()
    wider = nn.Sequential(digits.model, nn.ConstantPad1d((0, 1), 0.0))
    unnamed = LoadedNetwork(set_provenance(wider, replace(digits.provenance, class_names=None)))
    with pytest.raises(DataError, match="the networks have 10 and 11 outputs"):
        require_comparable(CLASSIFICATION, [digits, unnamed])


def test_networks_of_other_pixel_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, count=2)
    networks = [with_names(segmenter(), names) for names in (("a", "b", "c"), None)]
    for chosen in (networks[:1], networks[1:], [networks[0], networks[0]]):
        open_for_networks(SEGMENTATION, chosen, str(tmp_path), "val", TaskSettings())
    with pytest.raises(DataError, match="3 and 3 classes, or name them differently"):
        open_for_networks(SEGMENTATION, networks, str(tmp_path), "val", TaskSettings())
