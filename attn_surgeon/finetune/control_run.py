"""Fine-tune a network with grafts and, with the same budget, a control without them, and compare the two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.data import distributed
from attn_surgeon.data.unreadable_images import listed
from attn_surgeon.files import claimed, remove_leftovers
from attn_surgeon.finetune.checkpoint import write_file
from attn_surgeon.finetune.comparison import SeedResult, compare_arms, describe_seed
from attn_surgeon.finetune.curves import draw_curves
from attn_surgeon.finetune.graft_effects import bypass_costs, openings
from attn_surgeon.finetune.job import FinetuneJob
from attn_surgeon.finetune.loop import Trained, train
from attn_surgeon.finetune.starts import describe_seeds, with_seed
from attn_surgeon.measure.cost import graft_costs
from attn_surgeon.measure.latency import latencies
from attn_surgeon.optional_dependencies import is_installed
from attn_surgeon.progress import PhaseProgress, Progress, no_phases, of_jobs
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.tasks.base import ScoreOptions

COMPARISON = "comparison.json"


def fine_tune(job: FinetuneJob, progress: PhaseProgress = no_phases) -> dict[str, Any]:
    """Fine-tune, continuing from whatever the run folder already has.

    Args:
        job: from `open_job`, at its run folder.
        progress: is called with the phase and how much of it is done: in training, the batches of all runs and their
            total; in each evaluation, the validation images.

    Returns:
        The result as plain data, the same as in comparison.json in the run folder.

    Raises:
        BusyError: if another process is training in the run folder.
    """
    if not distributed.is_first():
        return _fine_tune(job, progress)
    with claimed(job.folder):
        remove_leftovers(job.folder)
        return _fine_tune(job, progress)


def _fine_tune(job: FinetuneJob, progress: PhaseProgress) -> dict[str, Any]:
    report = partial(progress, "evaluate before training")
    before = job.task.score(job.network.model, job.splits.val, ScoreOptions(with_loss=False), report)
    results = [_train_arms(job, number, progress) for number in range(job.seeds)]
    document = {"before": before.metric, "images": len(before.outcomes), **_describe(job, results)}
    if distributed.is_first():
        text = json.dumps(document, indent=2) + "\n"
        write_file(job.folder / COMPARISON, lambda path: Path(path).write_text(text))
        if is_installed("matplotlib"):
            draw_curves(job.folder, _histories(results), job.task)
    return document


def _train_arms(job: FinetuneJob, number: int, progress: PhaseProgress) -> SeedResult:
    seed, arms = job.settings.seed + number, 2 if job.control else 1

    def train_arm(name: str, position: int) -> Trained:
        batches = of_jobs(partial(progress, "fine-tune"), arms * number + position, arms * job.seeds)
        return _train_arm(job, name, seed, batches, partial(progress, "evaluate"))

    grafts = train_arm("grafts", 0)
    costs = bypass_costs(grafts.model, job.task, job.splits.val, grafts.score.metric, progress)
    opened = openings(grafts.model, job.task, job.splits.val)
    if not job.control:
        return SeedResult(seed, grafts, costs, opened, None)
    return SeedResult(seed, grafts, costs, opened, train_arm("control", 1))


def _train_arm(job: FinetuneJob, name: str, seed: int, progress: Progress, evaluation: Progress) -> Trained:
    """Train one network with one seed; if there are several, each gets its own subfolder."""
    alone = job.seeds == 1 and not job.control
    folder = job.folder if alone else job.folder / f"seed-{seed}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    start = job.network if seed == job.settings.seed else with_seed(job.network, seed)
    model = network_of(start, grafts=name == "grafts")
    teacher = network_of(job.network, grafts=False) if job.settings.distill else None
    settings, example = replace(job.settings, seed=seed), job.network.example
    trained = train(model, job.splits, settings, folder, example, progress, teacher, evaluation)
    if distributed.is_first():
        for file, content in job.task.pictures(trained.model, job.splits.val, trained.score).items():
            write_file(folder / file, lambda path, content=content: Path(path).write_bytes(content))  # type: ignore[misc]
    return trained


def network_of(network: LoadedNetwork, *, grafts: bool) -> nn.Module:
    """Return a copy of the network, with or without its grafts."""
    model = copied(network.model) if grafts else network.base()
    set_provenance(model, provenance_of(network.model))
    return model


def _histories(results: Sequence[SeedResult]) -> Iterator[tuple[str, int, Sequence[Mapping[str, Any]]]]:
    for result in results:
        for name, arm in result.arms.items():
            yield name, result.seed, arm.history


def _describe(job: FinetuneJob, results: Sequence[SeedResult]) -> dict[str, Any]:
    """Return the results of all runs as plain values."""
    document = {
        "folder": str(job.folder),
        "notes": list(job.network.notes),
        "task": job.task.name,
        "metric": job.task.metric.key,
        "title": job.task.metric.title,
        "settings": job.settings.to_dict(),
        "data": {**job.splits.report.facts, "unreadable": len(listed(job.folder))},
        "train_images": len(job.splits.train.dataset),  # type: ignore[arg-type]
        "runs": [describe_seed(result, job.task) for result in results],
        "seeds": describe_seeds(job.network),
        **_describe_grafts(job, results),
    }
    return document | (compare_arms(results, job.task) if job.control else {})


def _describe_grafts(job: FinetuneJob, results: Sequence[SeedResult]) -> dict[str, Any]:
    costs = graft_costs(job.network.model, job.network.example)
    grafts = [
        {
            "site": f"{item.graft.side} {item.graft.site}",
            "block": item.graft.block["name"],
            **asdict(costs[item.path]),
            "opened": [result.openings[item.path] for result in results],
            "closing_costs": [result.bypass_costs[item.path] for result in results],
        }
        for item in list_grafts(job.network.model)
    ]
    added = {
        "parameters": sum(cost.parameters for cost in costs.values()),
        "macs": sum(cost.macs for cost in costs.values()),
        **_latency(job, results[-1].grafts.model),
    }
    return {"added": added, "grafts": grafts}


def _latency(job: FinetuneJob, model: nn.Module) -> dict[str, float]:
    """Return the latency of one image through the network with grafts and without, in ms: median and quartile range."""
    with_grafts, without = latencies([model, network_of(job.network, grafts=False)], job.network.example)
    return {
        "latency_ms": 1000 * with_grafts.median,
        "latency_spread_ms": 1000 * with_grafts.spread,
        "latency_without_ms": 1000 * without.median,
        "latency_without_spread_ms": 1000 * without.spread,
    }
