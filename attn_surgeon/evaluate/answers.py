"""What networks answer to each image, kept beside their scores: predictions, confidences, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attn_surgeon.data import ImageData
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.accuracy import Evaluation, evaluate_together
from attn_surgeon.progress import Progress

BINS = 15
_BELOW_ONE = 1 - 2**-53


@dataclass(frozen=True)
class Reading:
    """Hold how images are read: how many at a time, how many of them, by how many processes, to which device."""

    batch_size: int = 256
    limit: int | None = None
    workers: int = 0
    device: str | torch.device = "cpu"


@dataclass(frozen=True)
class Answers:
    """Hold for every image its label, the class predicted (-1 where logits are NaN) and the confidence in it, (N,)."""

    labels: Tensor
    predicted: Tensor
    confidence: Tensor

    @property
    def right(self) -> Tensor:
        """Say which images the network gets right (N,)."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class ClassScore:
    """Hold how many images of a class are right; without images there is no accuracy."""

    name: str
    images: int
    correct: int
    accuracy: float | None


@dataclass(frozen=True)
class Confusion:
    """Hold how many images of a class are taken for another; the other is None where it is none of the data's."""

    label: str
    predicted: str | None
    images: int


def examine(
    models: Sequence[nn.Module], data: ImageData, reading: Reading, progress: Progress | None = None
) -> list[tuple[Evaluation, Answers]]:
    """Score networks on the same images, each read once, and keep their answers.

    Raise DataError where the networks differ in their number of outputs.
    """
    seen: list[list[Answers]] = [[] for _ in models]

    def watch(logits: Sequence[Tensor], labels: Tensor) -> None:
        _require_same_outputs(logits)
        for answers, own in zip(seen, logits, strict=True):
            answers.append(answers_of(own, labels))

    evaluations = evaluate_together(models, data, progress=progress, watch=watch, **vars(reading))
    return list(zip(evaluations, map(_joined, seen), strict=True))


def answers_of(logits: Tensor, labels: Tensor) -> Answers:
    """Read predictions and confidences off logits (N, K); of equal logits the first wins."""
    predicted = logits.argmax(1).where(~logits.isnan().any(1), -1)
    return Answers(labels, predicted, logits.double().softmax(1).amax(1))


def calibration_error(answers: Answers) -> float:
    """Give the expected calibration error (Guo et al., On Calibration of Modern Neural Networks, 2017).

    Images fall into 15 equally wide bins of confidence, the largest softmax output. The error is the mean, over all
    images, of the distance between their bin's accuracy and its mean confidence; NaN where a confidence is.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    if bool(answers.confidence.isnan().any()):
        return float("nan")
    # torchmetrics closes its bins below, and so has a sixteenth one for a confidence of exactly one
    confidence = answers.confidence.clamp(max=_BELOW_ONE)
    return float(binary_calibration_error(confidence, answers.right.long(), n_bins=BINS, norm="l1"))


def confusion_matrix(answers: Answers, classes: int) -> Tensor:
    """Count images by label and prediction (K, K + 1); the last column is for predictions outside the classes."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    predicted = _within(answers, classes)
    counts: Tensor = multiclass_confusion_matrix(predicted, answers.labels, num_classes=classes + 1)
    return counts[:classes]


def class_scores(answers: Answers, class_names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Give the accuracy on each class."""
    classes = len(class_names)
    images = answers.labels.bincount(minlength=classes).tolist()
    correct = answers.labels[answers.right].bincount(minlength=classes).tolist()
    return tuple(
        ClassScore(name, count, hits, hits / count if count else None)
        for name, count, hits in zip(class_names, images, correct, strict=True)
    )


def confusions(answers: Answers, class_names: Sequence[str]) -> tuple[Confusion, ...]:
    """List which classes are taken for which, the most frequent first; for thousands of classes, without a matrix."""
    wrong = ~answers.right
    pairs = torch.stack([answers.labels[wrong], _within(answers, len(class_names))[wrong]])
    found, counts = torch.unique(pairs, dim=1, return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    names = [*class_names, None]
    return tuple(
        Confusion(class_names[label], names[predicted], count)
        for (label, predicted), count in zip(found.T[order].tolist(), counts[order].tolist(), strict=True)
    )


def _within(answers: Answers, classes: int) -> Tensor:
    """Number every prediction outside the classes alike, after the last of them."""
    return answers.predicted.where((answers.predicted >= 0) & (answers.predicted < classes), classes)


def _joined(batches: Sequence[Answers]) -> Answers:
    columns = ("labels", "predicted", "confidence")
    return Answers(*(torch.cat([getattr(batch, column) for batch in batches]) for column in columns))


def _require_same_outputs(logits: Sequence[Tensor]) -> None:
    """Refuse to compare networks whose outputs cannot mean the same classes."""
    outputs = [own.shape[1] for own in logits]
    if len(set(outputs)) > 1:
        what = f"the networks have {' and '.join(map(str, outputs))} outputs"
        raise DataError(what, "comparison", "compare networks with a head for the same classes")
