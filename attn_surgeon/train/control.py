"""Fine-tune a network with grafts and, at the same budget, the one without: does the evidence show a gain?"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from attn_surgeon.artefact import provenance_of, set_provenance
from attn_surgeon.graph.surgery import bypassed, list_grafts
from attn_surgeon.report.cost import graft_costs
from attn_surgeon.subject import Subject
from attn_surgeon.train.checkpoint import write_file
from attn_surgeon.train.data.substitutes import listed
from attn_surgeon.train.evaluate import labels_of
from attn_surgeon.train.loop import Trained, train
from attn_surgeon.train.parts import Parts
from attn_surgeon.train.scoring import score
from attn_surgeon.train.settings import Settings, TrainingError
from attn_surgeon.train.statistics import Interval, exact_interval, mcnemar, t_interval

Progress = Callable[[str, int, int], None]
POOLED = "exact; an image counts once for each seed, as if seeds were independent"


@dataclass(frozen=True)
class Job:
    """Hold all that a fine-tune is made of."""

    subject: Subject
    parts: Parts
    settings: Settings
    folder: Path
    control: bool = False
    seeds: int = 1


@dataclass(frozen=True)
class Pair:
    """Hold what one seed gave: the network with grafts, what closing each costs, and the control."""

    seed: int
    grafts: Trained
    closing: Mapping[str, float]
    control: Trained | None

    @property
    def difference(self) -> float | None:
        """Give how much more the network with grafts gets right."""
        return None if self.control is None else self.grafts.evaluation.top1 - self.control.evaluation.top1


def fine_tune(job: Job, progress: Progress = lambda step, done, total: None) -> dict[str, Any]:
    """Carry out a fine-tune and give its result as plain data, which also is in the folder's comparison.json."""
    check(job)
    before, _ = score(job.subject.model, job.parts)
    pairs = [_pair(job, job.settings.seed + number, progress) for number in range(job.seeds)]
    result = {"before": before.top1, "images": before.images, **describe(job, pairs)}
    write_file(job.folder / "comparison.json", lambda path: Path(path).write_text(json.dumps(result, indent=2) + "\n"))
    return result


def check(job: Job) -> None:
    """Refuse a job that cannot be carried out, before anything is written."""
    if job.control and not list_grafts(job.subject.model):
        raise TrainingError("the network has no grafts", "--control", "insert some first, or leave --control out")
    if not labels_of(job.parts.train.dataset):
        raise TrainingError("there are no images to train on", "--data")


def _pair(job: Job, seed: int, progress: Progress) -> Pair:
    trained = _arm(job, "grafts", seed, progress)
    closing = _closing(trained, job.parts)
    control = _arm(job, "control", seed, progress) if job.control else None
    return Pair(seed, trained, closing, control)


def _arm(job: Job, name: str, seed: int, progress: Progress) -> Trained:
    """Train one network with one seed, in a folder of its own where there are several."""
    alone = job.seeds == 1 and not job.control
    folder = job.folder if alone else job.folder / f"seed-{seed}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    model = network(job.subject, grafts=name == "grafts")
    step = partial(progress, f"{name}, seed {seed}")
    return train(model, job.parts, replace(job.settings, seed=seed), folder, job.subject.example, step)


def network(subject: Subject, *, grafts: bool) -> nn.Module:
    """Copy the network with or without its grafts."""
    model = copy.deepcopy(subject.model) if grafts else subject.base()
    set_provenance(model, provenance_of(subject.model))
    return model


def _closing(trained: Trained, parts: Parts) -> dict[str, float]:
    """Measure, for each graft alone, the accuracy that is lost when it lets its input pass."""
    device = next(trained.model.parameters()).device
    costs = {}
    for made in list_grafts(trained.model):
        with bypassed([made.block]):
            without, _ = score(trained.model, parts, device=device)
        costs[made.path] = trained.evaluation.top1 - without.top1
    return costs


def describe(job: Job, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Describe what all runs gave together."""
    made = list_grafts(job.subject.model)
    costs = graft_costs(job.subject.model, job.subject.example)
    document = {
        "folder": str(job.folder),
        "notes": list(job.subject.notes),
        "settings": job.settings.to_dict(),
        "data": {**job.parts.report.facts, "unreadable": len(listed(job.folder))},
        "train_images": len(job.parts.train.dataset),  # type: ignore[arg-type]
        "runs": [_run(pair) for pair in pairs],
        "added": {
            "parameters": sum(cost.parameters for cost in costs.values()),
            "macs": sum(cost.macs for cost in costs.values()),
        },
        "grafts": [
            {
                "site": f"{item.graft.side} {item.graft.site}",
                "block": item.graft.block["name"],
                **asdict(costs[item.path]),
                "closing_costs": [pair.closing[item.path] for pair in pairs],
            }
            for item in made
        ],
    }
    return document | (_comparison(pairs) if job.control else {})


def _run(pair: Pair) -> dict[str, Any]:
    arms = {"grafts": pair.grafts, "control": pair.control}
    scores = {
        name: {"top1": arm.evaluation.top1, "loss": arm.evaluation.loss}
        for name, arm in arms.items()
        if arm is not None
    }
    return {"seed": pair.seed, **scores, "difference": pair.difference}


def _comparison(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Compare the two networks over all seeds."""
    ours, theirs = discordant(pairs)
    differences = [pair.difference for pair in pairs if pair.difference is not None]
    if len(pairs) > 1:
        interval, how = t_interval(differences), f"Student's t over {len(pairs)} seeds"
    else:
        interval = exact_interval(ours, theirs, len(pairs[0].grafts.correct))
        how = "McNemar's exact, over the validation images of one training run"
    return {
        "difference": {**asdict(interval), "how": how},
        "mcnemar": {"only_grafts": ours, "only_control": theirs, "p": mcnemar(ours, theirs), "how": POOLED},
        "verdict": verdict(interval, len(pairs)),
    }


def discordant(pairs: Sequence[Pair]) -> tuple[int, int]:
    """Count the images that only the network with grafts gets right, and those that only the control does."""
    both = [
        (ours, theirs)
        for pair in pairs
        if pair.control is not None
        for ours, theirs in zip(pair.grafts.correct, pair.control.correct, strict=True)
    ]
    return both.count((True, False)), both.count((False, True))


def verdict(interval: Interval, seeds: int) -> str:
    """Say in one sentence what the evidence shows, and never more."""
    points = (
        f"{100 * interval.estimate:+.2f} points, 95 % interval {100 * interval.low:+.2f} to {100 * interval.high:+.2f}"
    )
    shown = "a gain" if interval.low > 0 else "a loss" if interval.high < 0 else "neither a gain nor a loss"
    over = f"over {seeds} seeds" if seeds > 1 else "for this one training run only, which says nothing of other seeds"
    return f"The evidence shows {shown} from the grafts on these images ({points}), {over}."
