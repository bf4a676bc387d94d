"""The predictions of a classifier, and what is computed from them: calibration, confusions, accuracy by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15


@dataclass(frozen=True)
class Predictions:
    """The label, the predicted class (-1 where a logit is NaN) and the confidence of each image, (N,) each."""

    labels: Tensor
    predicted: Tensor
    confidence: Tensor

    @property
    def correct(self) -> Tensor:
        """Which images are classified correctly (N,)."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class ClassScore:
    """The accuracy on the images of a class; None where it has no images."""

    name: str
    images: int
    correct: int
    accuracy: float | None


@dataclass(frozen=True)
class Confusion:
    """The number of images of a class predicted as another; None for an output that is not a class of the data."""

    label: str
    predicted: str | None
    images: int


def predictions_of(logits: Tensor, labels: Tensor) -> Predictions:
    """Return predictions and confidences from logits (N, K); of equal logits the first wins."""
    predicted = logits.argmax(1).where(~logits.isnan().any(1), -1)
    return Predictions(labels, predicted, logits.double().softmax(1).amax(1))


def concatenated(batches: Sequence[Predictions]) -> Predictions:
    """Return the predictions of all batches."""
    columns = ("labels", "predicted", "confidence")
    return Predictions(*(torch.cat([getattr(batch, column) for batch in batches]) for column in columns))


def calibration_error(predictions: Predictions) -> float:
    """Return the expected calibration error (Guo et al., On Calibration of Modern Neural Networks, 2017).

    Images are put into 15 bins of equal width by their confidence, the largest softmax output. The error is the mean
    over images of the difference between the accuracy and the mean confidence of their bin; NaN with a NaN confidence.
    """
    if bool(predictions.confidence.isnan().any()):
        return float("nan")
    bins = (predictions.confidence * BINS).long().clamp(max=BINS - 1)
    differences = predictions.correct.double() - predictions.confidence.double()
    return float(torch.zeros(BINS, dtype=torch.double).index_add(0, bins, differences).abs().sum() / len(bins))


def confusion_matrix(predictions: Predictions, classes: int) -> Tensor:
    """Return the confusion matrix (K, K + 1) of images; the last column counts predictions that are no class."""
    pairs = predictions.labels * (classes + 1) + _within(predictions, classes)
    return pairs.bincount(minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def class_scores(predictions: Predictions, class_names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return the accuracy of each class."""
    classes = len(class_names)
    images = predictions.labels.bincount(minlength=classes).tolist()
    correct = predictions.labels[predictions.correct].bincount(minlength=classes).tolist()
    return tuple(
        ClassScore(name, count, hits, hits / count if count else None)
        for name, count, hits in zip(class_names, images, correct, strict=True)
    )


def confusions(predictions: Predictions, class_names: Sequence[str]) -> tuple[Confusion, ...]:
    """Return the confusions of classes, the most frequent first, without building the matrix."""
    wrong = ~predictions.correct
    pairs = torch.stack([predictions.labels[wrong], _within(predictions, len(class_names))[wrong]])
    confused, counts = torch.unique(pairs, dim=1, return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    names = [*class_names, None]
    return tuple(
        Confusion(class_names[label], names[predicted], count)
        for (label, predicted), count in zip(confused.T[order].tolist(), counts[order].tolist(), strict=True)
    )


def _within(predictions: Predictions, classes: int) -> Tensor:
    """Return the predicted classes (N,), with `classes` for every prediction that is no class."""
    return predictions.predicted.where((predictions.predicted >= 0) & (predictions.predicted < classes), classes)
