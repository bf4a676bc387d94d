"""Accuracy, size and latency of exported files, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from attn_surgeon.data.images import ImageData
from attn_surgeon.export.job import Job
from attn_surgeon.export.network import INPUT
from attn_surgeon.export.onnx.runtime import Session, as_feeds, opened
from attn_surgeon.measure.latency import Latency, by_turns, summarise
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import ScoreOptions
from attn_surgeon.tasks.settings import TaskSettings

TASK = "classification"


@dataclass(frozen=True)
class Measured:
    """What a file is worth: its share of right images, None without data, bytes, and seconds for one image."""

    precision: str
    top1: float | None
    images: int
    bytes: int
    seconds: float
    spread: float


@dataclass(frozen=True)
class Data:
    """The images to measure accuracy on."""

    folder: str
    split: str = "val"
    limit: int | None = None


def measure(job: Job, files: Mapping[str, Path], data: Data | None, progress: Progress | None = None) -> list[Measured]:
    """Measure files of one network by precision: latency on one thread, turn by turn, so that drift cancels."""
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(opened(path)) for name, path in files.items()}
        times = _times(job, sessions)
        scores = {name: _score(job, session, data, progress) for name, session in sessions.items()}
    measured = []
    for name, path in files.items():
        top1, images = scores[name]
        measured.append(Measured(name, top1, images, size_of(path), times[name].median, times[name].spread))
    return measured


def size_of(path: Path) -> int:
    """Give the bytes of a file and of the tensors beside it."""
    beside = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def _times(job: Job, sessions: Mapping[str, Session]) -> dict[str, Latency]:
    feeds = as_feeds(INPUT, job.inputs(next(job.sizes())))
    turns = by_turns([partial(session.time, feeds) for session in sessions.values()])
    return {name: summarise(seconds) for name, seconds in zip(sessions, turns, strict=True)}


def _score(job: Job, session: Session, data: Data | None, progress: Progress | None) -> tuple[float | None, int]:
    if data is None:
        return None, 0
    batch = max(size["batch"] for size in job.sizes())
    module = _InRuntime(session, job.settings.preprocess, job.network.classes or 0)
    score = get_task(TASK).score(module, open_data(job, data), ScoreOptions(batch), progress or no_progress)
    return score.metric, len(score.outcomes)


def open_data(job: Job, data: Data) -> ImageData:
    """Open the images, without the normalisation where the file does it; raise DataError where there are none."""
    preprocessing = job.loaded.preprocessing
    if job.settings.preprocess:
        zeros, ones = (0.0,) * preprocessing.channels, (1.0,) * preprocessing.channels
        preprocessing = replace(preprocessing, mean=zeros, std=ones)
    settings = TaskSettings(limit=data.limit, max_bad=0.0)
    return get_task(TASK).open_split(
        job.loaded, data.folder, data.split, settings, preprocessing=preprocessing, by_index=True
    )


class _InRuntime(nn.Module):
    """An exported file in place of the network it was made from."""

    def __init__(self, session: Session, pixels: bool, place: int) -> None:
        super().__init__()
        self.session, self.pixels, self.place = session, pixels, place

    def forward(self, images: Tensor) -> Tensor:
        """Give the output with classes for images (N, C, H, W)."""
        if self.pixels:
            images = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return torch.from_numpy(self.session.run(as_feeds(INPUT, images))[self.place])
