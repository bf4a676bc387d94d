"""Fine-tune a network with grafts and, at the same budget, the one without: does the evidence show a gain?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.data import processes
from attn_surgeon.data.parts import Parts
from attn_surgeon.data.substitutes import listed
from attn_surgeon.finetune.checkpoint import write_file
from attn_surgeon.finetune.comparison import Pair, compare, describe_run
from attn_surgeon.finetune.curves import draw_curves
from attn_surgeon.finetune.graft_effects import closing_costs, openings
from attn_surgeon.finetune.loop import Trained, train
from attn_surgeon.finetune.parameter_groups import require_optimizer
from attn_surgeon.finetune.preparation import require_possible
from attn_surgeon.finetune.settings import Settings, TrainingError
from attn_surgeon.measure.cost import graft_costs
from attn_surgeon.measure.latency import latencies
from attn_surgeon.surgery.check import check as check_grafts
from attn_surgeon.surgery.installed import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.tasks.base import Task, get_task

COMPARISON = "comparison.json"

RunProgress = Callable[[str, int, int], None]  # (run, done, total)


@dataclass(frozen=True)
class Job:
    """Hold all that a fine-tune is made of."""

    loaded: LoadedNetwork
    parts: Parts
    settings: Settings
    folder: Path
    control: bool = False
    seeds: int = 1

    @property
    def task(self) -> Task:
        """Give what is trained for."""
        return get_task(self.settings.task)


def fine_tune(job: Job, progress: RunProgress = lambda step, done, total: None) -> dict[str, Any]:
    """Carry out a fine-tune and give its result as plain data, which also is in the folder's comparison.json."""
    check(job)
    before = job.task.score(job.loaded.model, job.parts, "cpu", None)
    pairs = [_pair(job, job.settings.seed + number, progress) for number in range(job.seeds)]
    result = {"before": before.metric, "images": len(before.outcomes), **describe(job, pairs)}
    if processes.is_first():
        text = json.dumps(result, indent=2) + "\n"
        write_file(job.folder / COMPARISON, lambda path: Path(path).write_text(text))
        draw_curves(job.folder, _histories(pairs), job.task)
    return result


def check(job: Job) -> None:
    """Refuse a job that cannot be carried out, before anything is written."""
    if job.control and not list_grafts(job.loaded.model):
        raise TrainingError("the network has no grafts", "--control", "insert some first, or leave --control out")
    check_grafts(job.loaded.model, job.loaded.example)
    require_optimizer(job.settings.optimizer)
    if not len(job.parts.train.dataset):  # type: ignore[arg-type]
        raise TrainingError("there are no images to train on", "--data")
    require_possible(job.loaded.model, job.settings, job.loaded.example)
    if job.settings.distill and job.loaded.fresh:
        hint = "leave --distill out, or fine-tune the original first"
        raise TrainingError("a network whose head is new has nothing to teach", "--distill", hint)


def _pair(job: Job, seed: int, progress: RunProgress) -> Pair:
    trained = _arm(job, "grafts", seed, progress)
    closing = closing_costs(trained.model, job.task, job.parts, trained.score.metric)
    opened = openings(trained.model, job.task, job.parts)
    control = _arm(job, "control", seed, progress) if job.control else None
    return Pair(seed, trained, closing, opened, control)


def _histories(pairs: Sequence[Pair]) -> Iterator[tuple[str, int, Sequence[Mapping[str, Any]]]]:
    for pair in pairs:
        yield "grafts", pair.seed, pair.grafts.history
        if pair.control is not None:
            yield "control", pair.seed, pair.control.history


def _arm(job: Job, name: str, seed: int, progress: RunProgress) -> Trained:
    """Train one network with one seed, in a folder of its own where there are several."""
    alone = job.seeds == 1 and not job.control
    folder = job.folder if alone else job.folder / f"seed-{seed}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    model = network(job.loaded, grafts=name == "grafts")
    teacher = network(job.loaded, grafts=False) if job.settings.distill else None
    step = partial(progress, f"{name}, seed {seed}")
    done = train(model, job.parts, replace(job.settings, seed=seed), folder, job.loaded.example, step, teacher)
    if job.task.picture is not None and processes.is_first():
        job.task.picture(done.model, job.parts, done.score, folder)
    return done


def network(loaded: LoadedNetwork, *, grafts: bool) -> nn.Module:
    """Copy the network with or without its grafts."""
    model = copied(loaded.model) if grafts else loaded.base()
    set_provenance(model, provenance_of(loaded.model))
    return model


def describe(job: Job, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Describe what all runs gave together."""
    made = list_grafts(job.loaded.model)
    costs = graft_costs(job.loaded.model, job.loaded.example)
    document = {
        "folder": str(job.folder),
        "notes": list(job.loaded.notes),
        "task": job.task.name,
        "metric": job.task.metric,
        "title": job.task.title,
        "settings": job.settings.to_dict(),
        "data": {**job.parts.report.facts, "unreadable": len(listed(job.folder))},
        "train_images": len(job.parts.train.dataset),  # type: ignore[arg-type]
        "runs": [describe_run(pair, job.task) for pair in pairs],
        "added": {
            "parameters": sum(cost.parameters for cost in costs.values()),
            "macs": sum(cost.macs for cost in costs.values()),
            **_latency(job, pairs[-1].grafts.model),
        },
        "grafts": [
            {
                "site": f"{item.graft.side} {item.graft.site}",
                "block": item.graft.block["name"],
                **asdict(costs[item.path]),
                "opened": [pair.opened[item.path] for pair in pairs],
                "closing_costs": [pair.closing[item.path] for pair in pairs],
            }
            for item in made
        ],
    }
    return document | (compare(pairs, job.task) if job.control else {})


def _latency(job: Job, model: nn.Module) -> dict[str, float]:
    """Time one image through the network with grafts and without."""
    with_grafts, without = latencies([model, network(job.loaded, grafts=False)], job.loaded.example)
    return {"latency_ms": 1000 * with_grafts.median, "latency_without_ms": 1000 * without.median}
