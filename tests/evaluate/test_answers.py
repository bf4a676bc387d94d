"""What networks answer: calibration and confusions against plain loops, and what is neither right nor a class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from attn_surgeon.data import ImageData
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.answers import (
    BINS,
    Answers,
    Confusion,
    Reading,
    answers_of,
    calibration_error,
    class_scores,
    confusion_matrix,
    confusions,
    examine,
)

from .test_accuracy import CLASSES, Rows

NAMES = ("ant", "bee", "cat")


def drawn(count: int = 400, classes: int = 5, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Draw logits (N, K), a good part of them right, and labels (N,)."""
    labels = torch.randint(classes, (count,))
    return scale * (torch.randn(count, classes) + nn.functional.one_hot(labels, classes)), labels


def guo(answers: Answers) -> float:
    """Compute the expected calibration error bin by bin, each open below and closed above, as the paper has it."""
    confidence, right = answers.confidence.numpy(), answers.right.numpy()
    total = 0.0
    for number in range(BINS):
        own = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if own.any():
            total += own.sum() * abs(right[own].mean() - confidence[own].mean())
    return float(total / len(confidence))


@pytest.mark.parametrize("scale", [0.3, 2.0, 200.0])
def test_the_calibration_error_is_that_of_the_paper(scale: float) -> None:
    answers = answers_of(*drawn(scale=scale))
    assert calibration_error(answers) == pytest.approx(guo(answers), abs=1e-12)


def test_the_calibration_error_is_that_of_all_probabilities() -> None:
    logits, labels = drawn()
    expected = multiclass_calibration_error(logits.double().softmax(1), labels, num_classes=5, n_bins=15, norm="l1")
    assert calibration_error(answers_of(logits, labels)) == pytest.approx(
        float(expected), abs=1e-6
    )  # theirs is float32


def test_the_calibration_error_by_hand() -> None:
    # a bin of accuracy 0 and confidence 0.92, and the last, in which an image of confidence one is
    answers = Answers(torch.tensor([1, 0, 0]), torch.tensor([0, 0, 2]), torch.tensor([0.92, 0.96, 1.0]).double())
    bins = (0.92, 2 * abs(0.5 - 0.98))
    assert calibration_error(answers) == pytest.approx(sum(bins) / 3, abs=1e-7)


def test_the_matrix_counts_labels_and_predictions() -> None:
    logits, labels = drawn()
    expected = np.zeros((5, 6), dtype=int)
    for label, row in zip(labels.tolist(), logits.numpy(), strict=True):
        expected[label, row.argmax()] += 1
    assert confusion_matrix(answers_of(logits, labels), 5).tolist() == expected.tolist()


def test_scores_and_confusions_are_the_matrix() -> None:
    names = tuple("abcde")
    answers = answers_of(*drawn())
    counts = confusion_matrix(answers, 5)
    for label, score in enumerate(class_scores(answers, names)):
        images, correct = int(counts[label].sum()), int(counts[label, label])
        assert (score.name, score.images, score.correct) == (names[label], images, correct)
        assert score.accuracy == correct / images
    found = confusions(answers, names)
    wrong = {(pair.label, pair.predicted): pair.images for pair in found}
    cells = {
        (names[label], names[other]): int(counts[label, other])
        for label in range(5)
        for other in range(5)
        if label != other
    }
    assert wrong == {pair: images for pair, images in cells.items() if images}
    assert [pair.images for pair in found] == sorted(wrong.values(), reverse=True)


def test_what_is_no_class_is_told_apart() -> None:
    nan = float("nan")
    logits = torch.tensor([[0.0, 1.0, 0.0, 9.0], [nan, 1.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]])
    answers = answers_of(logits, torch.tensor([1, 0, 2]))
    assert answers.predicted.tolist() == [3, -1, 2]
    assert answers.right.tolist() == [False, False, True]
    assert confusion_matrix(answers, 3).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert set(confusions(answers, NAMES)) == {Confusion("ant", None, 1), Confusion("bee", None, 1)}
    assert np.isnan(calibration_error(answers))


def test_a_class_without_images_has_no_accuracy() -> None:
    answers = Answers(torch.tensor([0, 0]), torch.tensor([0, 2]), torch.ones(2).double())
    assert [score.accuracy for score in class_scores(answers, NAMES)] == [0.5, None, None]
    everything_right = Answers(torch.tensor([0]), torch.tensor([0]), torch.ones(1).double())
    assert confusions(everything_right, NAMES) == ()


def test_answers_come_in_the_order_of_the_images() -> None:
    rows = Rows()
    (evaluation, answers), (_, other) = examine(
        [nn.Identity(), nn.Softsign()], ImageData(rows, CLASSES), Reading(batch_size=7)
    )
    assert answers.labels.tolist() == rows.classes
    assert answers.predicted.tolist() == rows.rows.argmax(1).tolist()
    assert int(answers.right.sum()) == evaluation.correct
    assert torch.equal(answers.confidence, rows.rows.double().softmax(1).amax(1))
    assert torch.equal(other.confidence, nn.Softsign()(rows.rows).double().softmax(1).amax(1))


def test_networks_with_other_outputs_are_not_compared() -> None:
    with pytest.raises(DataError, match="the networks have 8 and 9 outputs"):
        examine([nn.Identity(), nn.ConstantPad1d((0, 1), 0.0)], ImageData(Rows(), CLASSES), Reading())
