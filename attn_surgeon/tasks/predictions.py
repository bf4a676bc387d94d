"""What a classifier predicts for each image, and what follows: calibration, confusions, accuracy of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15


@dataclass(frozen=True)
class Predictions:
    """For each image its label, the predicted class (-1 where logits are NaN) and the confidence in it, (N,)."""

    labels: Tensor
    predicted: Tensor
    confidence: Tensor

    @property
    def correct(self) -> Tensor:
        """Which images are classified correctly (N,)."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class ClassScore:
    """How many images of a class are classified correctly; without images there is no accuracy."""

    name: str
    images: int
    correct: int
    accuracy: float | None


@dataclass(frozen=True)
class Confusion:
    """How many images of a class are taken for another; the other is None where it is none of the data's."""

    label: str
    predicted: str | None
    images: int


def predictions_of(logits: Tensor, labels: Tensor) -> Predictions:
    """Return predictions and confidences for logits (N, K); of equal logits the first wins."""
    predicted = logits.argmax(1).where(~logits.isnan().any(1), -1)
    return Predictions(labels, predicted, logits.double().softmax(1).amax(1))


def concatenated(batches: Sequence[Predictions]) -> Predictions:
    """Return the predictions of all batches."""
    columns = ("labels", "predicted", "confidence")
    return Predictions(*(torch.cat([getattr(batch, column) for batch in batches]) for column in columns))


def calibration_error(predictions: Predictions) -> float:
    """Return the expected calibration error (Guo et al., On Calibration of Modern Neural Networks, 2017).

    Images fall into 15 equally wide bins of confidence, the largest softmax output. The error is the mean, over all
    images, of the distance between their bin's accuracy and its mean confidence; NaN where a confidence is.
    """
    if bool(predictions.confidence.isnan().any()):
        return float("nan")
    bins = (predictions.confidence * BINS).long().clamp(max=BINS - 1)
    excess = predictions.correct.double() - predictions.confidence.double()  # of accuracy over confidence
    return float(torch.zeros(BINS, dtype=torch.double).index_add(0, bins, excess).abs().sum() / len(bins))


def confusion_matrix(predictions: Predictions, classes: int) -> Tensor:
    """Return counts of images by label and prediction (K, K + 1); the last column is for predictions of no class."""
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
    """Return which classes are taken for which, the most frequent first, without building the matrix."""
    wrong = ~predictions.correct
    pairs = torch.stack([predictions.labels[wrong], _within(predictions, len(class_names))[wrong]])
    found, counts = torch.unique(pairs, dim=1, return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    names = [*class_names, None]
    return tuple(
        Confusion(class_names[label], names[predicted], count)
        for (label, predicted), count in zip(found.T[order].tolist(), counts[order].tolist(), strict=True)
    )


def _within(predictions: Predictions, classes: int) -> Tensor:
    """Return the predicted classes (N,), with `classes` for every prediction of no class."""
    return predictions.predicted.where((predictions.predicted >= 0) & (predictions.predicted < classes), classes)
