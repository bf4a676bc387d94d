"""Benchmark exported files side by side: accuracy, size and latency in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.data.images import ImageData
from attn_surgeon.export.module import INPUT, named_tensors
from attn_surgeon.export.onnx.session import OnnxSession, as_feeds, open_session
from attn_surgeon.export.onnx.session_detector import SessionDetector
from attn_surgeon.export.prepared import PreparedNetwork
from attn_surgeon.measure.latency import Latency, summarise, time_interleaved
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.tasks import get_task, infer_task
from attn_surgeon.tasks.base import Metric, ScoreOptions, Task
from attn_surgeon.tasks.detectors.base import find_detector
from attn_surgeon.tasks.settings import TaskSettings


@dataclass(frozen=True)
class FileBenchmark:
    """The accuracy, size and latency of a file.

    Args:
        precision: its precision.
        metric: the task's metric; None without data.
        score: its value; None without data.
        images: the number of images it was measured on.
        bytes: the size of the file with its external tensors.
        latency: the seconds for one image on one thread.
    """

    precision: str
    metric: Metric | None
    score: float | None
    images: int
    bytes: int
    latency: Latency

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON; `seconds` is the median, `spread` the interquartile range."""
        times = {"seconds": self.latency.median, "spread": self.latency.spread, "quartiles": self.latency.quartiles}
        score = {} if self.metric is None else {self.metric.key: self.score}
        return {"precision": self.precision, **score, "images": self.images, "bytes": self.bytes, **times}


@dataclass(frozen=True)
class EvaluationData:
    """The images to measure accuracy on: at most `limit` images of a split."""

    folder: str
    split: str = "val"
    limit: int | None = None


def benchmark_files(
    prepared: PreparedNetwork, files: Mapping[str, Path], data: EvaluationData | None, progress: Progress = no_progress
) -> list[FileBenchmark]:
    """Return the benchmarks of files, by precision, timed in interleaved rounds."""
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(open_session(path)) for name, path in files.items()}
        times = _latencies(prepared, sessions)
        scores = {name: _score(prepared, session, data, progress) for name, session in sessions.items()}
    return [FileBenchmark(name, *scores[name], size_of(path), times[name]) for name, path in files.items()]


def size_of(path: Path) -> int:
    """Return the size in bytes of a file with its external tensors."""
    external = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (external.stat().st_size if external.exists() else 0)


def _latencies(prepared: PreparedNetwork, sessions: Mapping[str, OnnxSession]) -> dict[str, Latency]:
    feeds = as_feeds(INPUT, prepared.inputs(next(prepared.sizes())))
    timings = time_interleaved([partial(session.time, feeds) for session in sessions.values()])
    return {name: summarise(seconds) for name, seconds in zip(sessions, timings, strict=True)}


def _score(
    prepared: PreparedNetwork, session: OnnxSession, data: EvaluationData | None, progress: Progress
) -> tuple[Metric | None, float | None, int]:
    if data is None:
        return None, None, 0
    batch = max(size["batch"] for size in prepared.sizes())
    module: nn.Module = _SessionModule(session, prepared.settings.preprocess, prepared.exported.classes or 0)
    if find_detector(prepared.network.model) is not None:
        module = SessionDetector(session, prepared)
    dataset = open_evaluation_data(prepared, data)
    task = _task_of(data)
    score = task.score(module, dataset, ScoreOptions(batch, with_loss=False), progress)
    return task.metric, score.metric, len(score.outcomes)


def open_evaluation_data(prepared: PreparedNetwork, data: EvaluationData) -> ImageData:
    """Return the images, without normalisation where the file includes it; raise DataError for none."""
    preprocessing = prepared.network.preprocessing
    if prepared.settings.preprocess:
        zeros, ones = (0.0,) * preprocessing.channels, (1.0,) * preprocessing.channels
        preprocessing = replace(preprocessing, mean=zeros, std=ones)
    settings = TaskSettings(limit=data.limit, max_bad=0.0)
    network = prepared.network
    if find_detector(network.model) is None:
        classifier = _Classifier(network.model, prepared.exported.classes or 0).eval()
        network = LoadedNetwork(set_provenance(classifier, network.provenance))
    return _task_of(data).open_split(
        network, data.folder, data.split, settings, preprocessing=preprocessing, by_index=True
    )


def _task_of(data: EvaluationData) -> Task:
    return get_task(infer_task(data.folder))


class _Classifier(nn.Module):
    """A wrapper that returns one of the outputs of a network, its logits."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network, self.index = network, index

    def forward(self, images: Tensor) -> Tensor:
        return named_tensors(self.network(images))[self.index][1]


class _SessionModule(nn.Module):
    """A module that runs an exported file in ONNX Runtime and returns its logits."""

    def __init__(self, session: OnnxSession, pixels: bool, index: int) -> None:
        super().__init__()
        self.session, self.pixels, self.index = session, pixels, index

    def forward(self, images: Tensor) -> Tensor:
        if self.pixels:
            images = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return torch.from_numpy(self.session.run(as_feeds(INPUT, images))[self.index])
