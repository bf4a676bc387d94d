"""What networks answer: calibration and confusions against plain loops, and what is neither right nor a class."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from attn_surgeon import optional_dependencies
from attn_surgeon.data.images import ImageData
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import Score, ScoreOptions
from attn_surgeon.tasks.predictions import (
    BINS,
    Confusion,
    Predictions,
    calibration_error,
    class_scores,
    confusion_matrix,
    confusions,
    predictions_of,
)

from .test_accuracy import CLASSES, Rows

NAMES = ("ant", "bee", "cat")


def drawn(count: int = 400, classes: int = 5, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Draw logits (N, K), a good part of them right, and labels (N,)."""
    labels = torch.randint(classes, (count,))
    return scale * (torch.randn(count, classes) + nn.functional.one_hot(labels, classes)), labels


def guo(predictions: Predictions) -> float:
    """Compute the expected calibration error bin by bin, each open below and closed above, as the paper has it."""
    confidence, right = predictions.confidence.numpy(), predictions.correct.numpy()
    total = 0.0
    for number in range(BINS):
        own = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if own.any():
            total += own.sum() * abs(right[own].mean() - confidence[own].mean())
    return float(total / len(confidence))


@pytest.mark.parametrize("scale", [0.3, 2.0, 200.0])
def test_the_calibration_error_is_that_of_the_paper(scale: float) -> None:
    predictions = predictions_of(*drawn(scale=scale))
    assert calibration_error(predictions) == pytest.approx(guo(predictions), abs=1e-12)


def test_the_calibration_error_is_that_of_all_probabilities() -> None:
    logits, labels = drawn()
    expected = multiclass_calibration_error(logits.double().softmax(1), labels, num_classes=5, n_bins=15, norm="l1")
    assert calibration_error(predictions_of(logits, labels)) == pytest.approx(
        float(expected), abs=1e-6
    )  # theirs is float32


def test_the_calibration_error_by_hand() -> None:
    # a bin of accuracy 0 and confidence 0.92, and the last, in which an image of confidence one is
    predictions = Predictions(
        torch.tensor([1, 0, 0]), torch.tensor([0, 0, 2]), torch.tensor([0.92, 0.96, 1.0]).double()
    )
    bins = (0.92, 2 * abs(0.5 - 0.98))
    assert calibration_error(predictions) == pytest.approx(sum(bins) / 3, abs=1e-7)


def test_the_matrix_counts_labels_and_predictions() -> None:
    logits, labels = drawn()
    expected = np.zeros((5, 6), dtype=int)
    for label, row in zip(labels.tolist(), logits.numpy(), strict=True):
        expected[label, row.argmax()] += 1
    assert confusion_matrix(predictions_of(logits, labels), 5).tolist() == expected.tolist()


def test_scores_and_confusions_are_the_matrix() -> None:
    names = tuple("abcde")
    predictions = predictions_of(*drawn())
    counts = confusion_matrix(predictions, 5)
    for label, score in enumerate(class_scores(predictions, names)):
        images, correct = int(counts[label].sum()), int(counts[label, label])
        assert (score.name, score.images, score.correct) == (names[label], images, correct)
        assert score.accuracy == correct / images
    found = confusions(predictions, names)
    wrong = {(pair.label, pair.predicted): pair.images for pair in found}
    cells = {
        (names[label], names[other]): int(counts[label, other])
        for label in range(5)
        for other in range(5)
        if label != other
    }
    assert wrong == {pair: images for pair, images in cells.items() if images}
    assert [pair.images for pair in found] == sorted(wrong.values(), reverse=True)


def test_values_without_a_class_are_distinguished() -> None:
    nan = float("nan")
    logits = torch.tensor([[0.0, 1.0, 0.0, 9.0], [nan, 1.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]])
    predictions = predictions_of(logits, torch.tensor([1, 0, 2]))
    assert predictions.predicted.tolist() == [3, -1, 2]
    assert predictions.correct.tolist() == [False, False, True]
    assert confusion_matrix(predictions, 3).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert set(confusions(predictions, NAMES)) == {Confusion("ant", None, 1), Confusion("bee", None, 1)}
    assert np.isnan(calibration_error(predictions))


def test_a_class_without_images_has_no_accuracy() -> None:
    predictions = Predictions(torch.tensor([0, 0]), torch.tensor([0, 2]), torch.ones(2).double())
    assert [score.accuracy for score in class_scores(predictions, NAMES)] == [0.5, None, None]
    everything_right = Predictions(torch.tensor([0]), torch.tensor([0]), torch.ones(1).double())
    assert confusions(everything_right, NAMES) == ()


def test_predictions_come_in_the_order_of_the_images() -> None:
    rows = Rows()
    score = get_task("classification").score(nn.Identity(), ImageData(rows, CLASSES), ScoreOptions(batch_size=7))
    predictions = score.predictions
    assert predictions.labels.tolist() == rows.classes
    assert predictions.predicted.tolist() == rows.rows.argmax(1).tolist()
    assert int(predictions.correct.sum()) == score.figures["correct"] == sum(score.outcomes)
    assert torch.equal(predictions.confidence, rows.rows.double().softmax(1).amax(1))


def test_without_matplotlib_the_confusion_matrix_is_a_table_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    task, data = get_task("classification"), ImageData(cast("Any", None), ("a", "b"))
    predictions = Predictions(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([0.9, 0.8, 0.6]))
    score = Score(0.5, 0.1, (1.0, 1.0, 0.0), predictions=predictions)
    both = task.pictures(nn.Identity(), data, score)
    monkeypatch.setattr(optional_dependencies, "find_spec", lambda name: None)
    table = task.pictures(nn.Identity(), data, score)
    assert (set(both), set(table)) == ({"confusion.csv", "confusion.png"}, {"confusion.csv"})
    assert table["confusion.csv"] == both["confusion.csv"]
