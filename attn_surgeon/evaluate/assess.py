"""Evaluate one network, or compare two on the same images, clean and corrupted; the results are plain data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.data.images import ImageData
from attn_surgeon.errors import DataError, option
from attn_surgeon.evaluate.compare import ComparedNames, compare_scores, require_comparable
from attn_surgeon.evaluate.robust import describe_trials, run_trials
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.tasks.base import DEFAULT_OPTIONS, Score, ScoreOptions, Task
from attn_surgeon.tasks.settings import TaskSettings


@dataclass(frozen=True)
class Assessment:
    """The result of an evaluation: a document of plain values, and each network's score."""

    document: dict[str, Any]
    scores: list[Score]


def open_for_networks(
    task: Task,
    networks: Sequence[LoadedNetwork],
    spec: str,
    split: str,
    settings: TaskSettings,
    *,
    by_index: bool = False,
) -> list[ImageData]:
    """Open the same images for each network.

    Args:
        task: the task.
        networks: one network, or two to compare.
        spec: the data, as for `open_pictures`.
        split: its split.
        settings: how the data is read.
        by_index: match classes to outputs by index where names do not match.

    Raises:
        DataError: if the data cannot be read, or the networks do not have the same classes.
    """
    require_comparable(task, networks)
    data = [task.open_split(network, spec, split, settings, by_index=by_index) for network in networks]
    if data[0].class_names != data[-1].class_names:
        counts = " and ".join(str(len(own.class_names)) for own in data)
        what = f"the networks have {counts} classes, or name them differently"
        raise DataError(what, option("compare"), "compare networks that were trained on the same classes")
    return data


def assess(
    task: Task,
    networks: Sequence[LoadedNetwork],
    data: Sequence[ImageData],
    *,
    compared: ComparedNames | None = None,
    corruption_seed: int | None = None,
    options: ScoreOptions = DEFAULT_OPTIONS,
    progress: Progress = no_progress,
) -> Assessment:
    """Evaluate one network, or compare two.

    Args:
        task: the task.
        networks: the networks.
        data: the images as each network takes them, from `open_for_networks`.
        compared: the names of the two networks to compare.
        corruption_seed: evaluate on corrupted images too, drawn with this seed.
        options: how images are scored.
        progress: is called with the images done and their total.

    Returns:
        The document: the first network's scores; under `compare` those of the second, the difference, the paired test
        and a sentence; under `robust` the results on corrupted images.
    """
    since, models = time.perf_counter(), [network.model for network in networks]
    scores = task.score_each(models, data, options, progress)
    seconds = {"seconds": time.perf_counter() - since}  # for all networks together, since images are read once
    documents = [describe_score(task, score, own) | seconds for score, own in zip(scores, data, strict=True)]
    document = dict(documents[0])
    if compared is not None:
        difference = compare_scores(task, scores[0], scores[1], compared)
        document["compare"] = documents[1] | difference | task.compare_details(scores[0], scores[1], data[0])
    if corruption_seed is not None:
        trials = run_trials(task, models, data, seed=corruption_seed, options=options, progress=progress)
        clean = [torch.tensor(score.outcomes, dtype=torch.float64) for score in scores]
        document["robust"] = {"seed": corruption_seed, **describe_trials(task, trials, clean, compared)}
    return Assessment(document, scores)


def describe_score(task: Task, score: Score, data: ImageData) -> dict[str, Any]:
    """Return a score as plain values."""
    sha256 = {} if score.outputs_sha256 is None else {"logits_sha256": score.outputs_sha256}
    metric = {task.metric.key: score.metric, "loss": score.loss}
    return {"images": len(score.outcomes), **metric, **score.figures, **sha256, **task.details(score, data)}
