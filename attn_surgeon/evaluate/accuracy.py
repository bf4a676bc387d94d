"""Measure a classifier on a dataset: accuracy, loss, and a hash of every logit."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from attn_surgeon.data import ImageData
from attn_surgeon.errors import DataError, first_line
from attn_surgeon.progress import Progress
from attn_surgeon.surgery.isolation import mode

Watch = Callable[[Tensor, Tensor], None]

LIMIT_SEED = 0


@dataclass(frozen=True)
class Evaluation:
    """Hold what a network scored on a dataset; `top5` means nothing, and is None, below six classes."""

    images: int
    correct: int
    correct5: int | None
    top1: float
    top5: float | None
    loss: float
    logits_sha256: str
    seconds: float


@dataclass
class _Tally:
    """Add up batches."""

    images: int = 0
    correct: int = 0
    correct5: int = 0
    loss: float = 0.0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Take in logits (N, K) and labels (N,)."""
        rank = ranks(logits, labels)
        self.images += len(labels)
        self.correct += int((rank < 1).sum())
        self.correct5 += int((rank < 5).sum())
        self.loss += float(F.cross_entropy(logits.double(), labels, reduction="sum"))
        self.digest.update(logits.contiguous().numpy().astype("<f4").tobytes())


def evaluate(
    model: nn.Module,
    data: ImageData,
    *,
    batch_size: int = 256,
    limit: int | None = None,
    workers: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """Score a network, moved to `device`, on all images or on a fixed balanced choice of `limit`.

    `watch` is shown the logits (N, K) and labels (N,) of each batch.
    """

    def first(answers: Sequence[Tensor], labels: Tensor) -> None:
        if watch is not None:
            watch(answers[0], labels)

    return evaluate_together(
        [model],
        data,
        batch_size=batch_size,
        limit=limit,
        workers=workers,
        device=device,
        progress=progress,
        watch=first,
    )[0]


def evaluate_together(
    models: Sequence[nn.Module],
    data: ImageData,
    *,
    batch_size: int,
    limit: int | None,
    workers: int,
    device: str | torch.device,
    progress: Progress | None,
    watch: Callable[[Sequence[Tensor], Tensor], None],
) -> list[Evaluation]:
    """Score networks on the same images, each image read once.

    A dataset gives one tensor for all networks, or a tuple with one for each. `watch` is shown the
    logits (N, K) of each network, and the labels (N,).
    """
    start = time.perf_counter()
    loader = _loader(data.dataset, limit, batch_size, workers)
    total, tallies = len(cast(Any, loader.dataset)), [_Tally() for _ in models]
    if not total:
        raise DataError("no images to evaluate on", "the dataset is empty")
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(mode(model.to(device), training=False))
        stack.enter_context(torch.inference_mode())
        for images, labels, *_ in batches(loader):
            answers = [
                _answer(model, view.to(device), len(data.class_names))
                for model, view in zip(models, _views(images, len(models)), strict=True)
            ]
            for tally, logits in zip(tallies, answers, strict=True):
                tally.add(logits, labels)
            watch(answers, labels)
            if progress is not None:
                progress(tallies[0].images, total)
    seconds = time.perf_counter() - start
    return [_result(tally, len(data.class_names), seconds) for tally in tallies]


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how many logits (N, K) beat the label's own (N,); of equal ones the first wins."""
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1])[None] < labels[:, None]
    beaten = (logits > own) | ((logits == own) & earlier)
    # NaN beats nothing and is beaten by nothing: without this line it would come first.
    return torch.where(logits.isnan().any(1), logits.shape[1], beaten.sum(1))


def balanced(labels: list[int], limit: int) -> list[int]:
    """Choose `limit` indices, as many of each class as there are, the same ones every time."""
    if limit < 1:
        raise DataError(f"limit must be at least 1, got {limit}", "evaluation", "leave it out to take all")
    shuffled = sorted(range(len(labels)), key=_scramble)
    seen: Counter[int] = Counter()
    turn: dict[int, int] = {}
    for index in shuffled:
        turn[index] = seen[labels[index]]
        seen[labels[index]] += 1
    return sorted(sorted(shuffled, key=turn.__getitem__)[:limit])


def labels_of(dataset: Dataset[Any]) -> list[int]:
    """Return a dataset's labels, from its `labels` where it has them, else item by item."""
    known = getattr(dataset, "labels", None)
    return list(known) if known is not None else [int(dataset[i][1]) for i in range(len(cast(Any, dataset)))]


def _scramble(index: int) -> bytes:
    """Return a sort key that puts indices in a fixed random order on every machine."""
    return hashlib.sha256(f"{LIMIT_SEED}:{index}".encode()).digest()


def _loader(dataset: Dataset[Any], limit: int | None, batch_size: int, workers: int) -> DataLoader[Any]:
    """Read a dataset, or `limit` images of it, in order."""
    if limit is not None:
        dataset = Subset(dataset, balanced(labels_of(dataset), limit))
    # A loader draws a seed for its workers: from its own generator, so as not to disturb a training run.
    return DataLoader(dataset, batch_size, num_workers=workers, generator=torch.Generator())


def batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches, and say a worker's data error as the worker itself said it."""
    try:
        yield from loader
    except DataError as error:
        if loader.num_workers == 0:
            raise
        # What arrives from a worker is its whole traceback; the error proper is the last line.
        what = error.what.strip().splitlines()[-1].partition("Error: ")[2]
        raise DataError(what or error.what, error.where, error.hint) from error


def _views(images: Tensor | Sequence[Tensor], networks: int) -> list[Tensor]:
    """Give each network its images: its own, or those that all share."""
    views = [images] if isinstance(images, Tensor) else list(images)
    return views * networks if len(views) == 1 else views


def _answer(model: nn.Module, images: Tensor, classes: int) -> Tensor:
    """Run a network on images and give its logits (N, K), in float32 on the CPU."""
    logits = _logits(model, images)
    _check_outputs(logits, classes)
    return cast(Tensor, logits.float().cpu())


def _check_outputs(logits: object, classes: int) -> None:
    """Refuse anything but logits (N, K) with an output for every class."""
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise DataError("the network does not return logits (N, classes)", "evaluation", "give a classifier")
    if logits.shape[1] < classes:
        raise DataError(
            f"the network has {logits.shape[1]} outputs, the data {classes} classes",
            "evaluation",
            "give the network a head for these classes, or other data",
        )


def _logits(model: nn.Module, images: Tensor) -> Any:
    try:
        return model(images)
    except RuntimeError as error:
        shape = "×".join(map(str, images.shape))
        what = f"the network does not run on these images: {first_line(error)}"
        raise DataError(what, f"a batch {shape}", "say what it takes with --size and --mean") from error


def _result(tally: _Tally, classes: int, seconds: float) -> Evaluation:
    """Turn sums into fractions and means."""
    correct5 = tally.correct5 if classes > 5 else None
    return Evaluation(
        images=tally.images,
        correct=tally.correct,
        correct5=correct5,
        top1=tally.correct / tally.images,
        top5=None if correct5 is None else correct5 / tally.images,
        loss=tally.loss / tally.images,
        logits_sha256=tally.digest.hexdigest(),
        seconds=seconds,
    )
