"""Measure a classifier on a dataset: accuracy, loss, and a hash of every logit."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from attn_surgeon.data.images import ImageData
from attn_surgeon.data.sampling import batches
from attn_surgeon.data.subsets import ImageSubset, balanced, labels_of
from attn_surgeon.data.views import Views
from attn_surgeon.errors import DataError, first_line, option
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.tasks.outputs import main_output
from attn_surgeon.tasks.shared_images import evaluated


@dataclass(frozen=True)
class Accuracy:
    """The accuracy and loss of a classifier on a dataset; `top5` is None for fewer than six classes."""

    images: int
    correct: int
    correct5: int | None
    top1: float
    top5: float | None
    loss: float
    logits_sha256: str
    seconds: float


@dataclass
class _Sums:
    images: int = 0
    correct: int = 0
    correct5: int = 0
    loss: float = 0.0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch of logits (N, K) and labels (N,)."""
        rank = ranks(logits, labels)
        self.images += len(labels)
        self.correct += int((rank < 1).sum())
        self.correct5 += int((rank < 5).sum())
        self.loss += float(F.cross_entropy(logits.double(), labels, reduction="sum"))
        self.digest.update(logits.contiguous().numpy().astype("<f4").tobytes())

    def accuracy(self, classes: int, seconds: float) -> Accuracy:
        """Return the accuracy over all batches."""
        correct5 = self.correct5 if classes > 5 else None
        return Accuracy(
            images=self.images,
            correct=self.correct,
            correct5=correct5,
            top1=self.correct / self.images,
            top5=None if correct5 is None else correct5 / self.images,
            loss=self.loss / self.images,
            logits_sha256=self.digest.hexdigest(),
            seconds=seconds,
        )


def measure_accuracy(
    model: nn.Module,
    data: ImageData,
    *,
    batch_size: int = 256,
    limit: int | None = None,
    workers: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress = no_progress,
    watch: Callable[[Tensor, Tensor], None] = lambda logits, labels: None,
) -> Accuracy:
    """Measure a classifier, moved to `device`, in eval mode.

    Args:
        model: returns logits (N, K), at least as many as there are classes.
        data: images (C, H, W) with labels.
        batch_size: images per batch.
        limit: the maximum number of images, balanced over the classes.
        workers: data-loading processes.
        device: where to run.
        progress: is called with the number of images done and their total.
        watch: is called with the logits (N, K) and labels (N,) of each batch, on the CPU.

    Raises:
        DataError: there are no images, or the network does not return such logits.
    """
    if limit is not None:
        data = replace(data, dataset=ImageSubset(data.dataset, balanced(labels_of(data.dataset), limit)))
    loading = {"batch_size": batch_size, "workers": workers, "device": device}
    return measure_accuracies([model], [data], **loading, progress=progress, watches=[watch])[0]  # type: ignore[arg-type]


def measure_accuracies(
    models: Sequence[nn.Module],
    data: Sequence[ImageData],
    *,
    batch_size: int = 256,
    workers: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress = no_progress,
    watches: Sequence[Callable[[Tensor, Tensor], None]],
) -> list[Accuracy]:
    """Measure classifiers on the same images, each read once.

    Args:
        models: as for `measure_accuracy`.
        data: the images, preprocessed for each network.
        batch_size: images per batch.
        workers: data-loading processes.
        device: where to run.
        progress: is called with the images done and their total, over all networks.
        watches: a function for each network, called with the logits (N, K) and labels (N,) of each batch, on the CPU.
    """
    start, views = time.perf_counter(), Views([item.dataset for item in data])
    total, sums = len(views) * len(models), [_Sums() for _ in models]
    if not total:
        raise DataError("no images to evaluate on", "the dataset is empty")
    # A loader draws the base seed of its workers; with its own generator, evaluation does not change a training run.
    loader = DataLoader(views, batch_size, num_workers=workers, generator=torch.Generator())
    with evaluated(models, device):
        for batch in batches(loader):
            for number, (images, labels, *_) in enumerate(batch):
                logits = _logits(models[number], images.to(device), len(data[number].class_names))
                sums[number].add(logits, labels)
                watches[number](logits, labels)
                progress(sum(sum_.images for sum_ in sums), total)
    seconds = time.perf_counter() - start
    return [sum_.accuracy(len(item.class_names), seconds) for sum_, item in zip(sums, data, strict=True)]


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the rank (N,) of the label's logit among logits (N, K), 0 for the largest; of equal ones the first."""
    of_label = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1])[None] < labels[:, None]
    larger = (logits > of_label) | ((logits == of_label) & earlier)
    # Comparisons with NaN are false, so outputs of NaN would have rank 0; they get the last rank.
    return torch.where(logits.isnan().any(1), logits.shape[1], larger.sum(1))


def require_logits(output: Any) -> Tensor:
    """Return the output of a classifier; raise DataError where it is not logits (N, K)."""
    output = main_output(output)
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise DataError("the network does not return logits (N, classes)", "classification", "use a classifier")
    return output


def _logits(model: nn.Module, images: Tensor, classes: int) -> Tensor:
    """Return the logits (N, K) of a batch, in float32 on the CPU."""
    try:
        logits = model(images)
    except RuntimeError as error:
        shape = "×".join(map(str, images.shape))
        what = f"the network does not run on these images: {first_line(error)}"
        raise DataError(
            what, f"a batch {shape}", f"set {option('size')} and {option('mean')} to what it was trained with"
        ) from error
    logits = require_logits(logits)
    if logits.shape[1] < classes:
        what = f"the network has {logits.shape[1]} outputs, the data {classes} classes"
        raise DataError(what, "evaluation", "use a network with a head for these classes, or other data")
    return logits.float().cpu()
