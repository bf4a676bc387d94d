"""Tell which class an image shows: cross-entropy, top-1, and which images are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.data import parts as data
from attn_surgeon.data.mask_pairs import is_masked
from attn_surgeon.data.parts import Parts
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.accuracy import evaluate, ranks
from attn_surgeon.finetune.precision import in_full_precision
from attn_surgeon.finetune.settings import Settings
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.progress import Progress
from attn_surgeon.tasks import head
from attn_surgeon.tasks.base import Score, Task

BATCH = 256
SHOWN, AT_ONCE = 64, 16  # images that openings are measured on


def open_parts(spec: str, preprocessing: Preprocessing, settings: Settings) -> Parts:
    """Open images with a class each; raise DataError where the data does not fit."""
    if is_masked(spec):
        raise DataError("these are images with masks", spec, "train with --task segmentation")
    return data.open_parts(spec, preprocessing, settings)


def fitted(loaded: LoadedNetwork, class_names: tuple[str, ...], settings: Settings) -> LoadedNetwork:
    """Name the classes, and give the network a head for them."""
    return head.fitted(loaded, class_names, settings.seed)


def logits(output: Any) -> Tensor:
    """Take what a classifier returns, which is its logits (N, K); raise DataError where it is not."""
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise DataError("the network does not return logits (N, classes)", "training", "give a classifier")
    return output


def loss(output: Any, targets: Tensor, settings: Settings) -> Tensor:
    """Measure logits (N, K) by cross-entropy, or class by class by binary cross-entropy, against (N,) or (N, K)."""
    scores = logits(output)
    if settings.loss == "bce":
        return F.binary_cross_entropy_with_logits(scores, _shares(targets, scores, settings.label_smoothing))
    # mixed targets are smoothed already
    smoothing = settings.label_smoothing if targets.ndim == 1 else 0.0
    return F.cross_entropy(scores, targets, label_smoothing=smoothing)


def _shares(targets: Tensor, scores: Tensor, smoothing: float) -> Tensor:
    """Write labels (N,) as shares of classes (N, K)."""
    if targets.ndim > 1:
        return targets.to(scores.dtype)
    ones = F.one_hot(targets, scores.shape[1]).to(scores.dtype)
    return ones * (1 - smoothing) + smoothing / scores.shape[1]


def score(model: nn.Module, parts: Parts, device: Any = "cpu", progress: Progress | None = None) -> Score:
    """Measure a network that is being trained exactly as `evaluate` will measure its artefact."""
    right: list[float] = []
    with in_full_precision(model):
        evaluation = evaluate(
            model,
            parts.val,
            batch_size=BATCH,
            device=device,
            progress=progress,
            watch=lambda scores, labels: right.extend((ranks(scores, labels) < 1).double().tolist()),
        )
    return Score(evaluation.top1, evaluation.loss, tuple(right))


def samples(parts: Parts) -> Iterator[Tensor]:
    """Yield the first validation images in batches."""
    dataset: Dataset[Any] = parts.val.dataset
    few = Subset(dataset, range(min(SHOWN, len(dataset))))  # type: ignore[arg-type]
    for images, *_ in DataLoader(few, AT_ONCE, generator=torch.Generator()):
        yield images


TASK = Task("classification", "top1", "top-1", open_parts, fitted, logits, loss, score, samples)
