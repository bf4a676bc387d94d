"""Remove grafts whose removal costs little on validation data, one by one; all are measured again after each removal.

Nothing is trained. Of the grafts that are left, the one without which the metric is best is removed, as long as all
removals together lose at most the threshold. The loss is measured against the network with all its grafts, on the same
images, with the interval and the test of `evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.data.images import ImageData
from attn_surgeon.errors import PlanError, SettingsError, counted, option
from attn_surgeon.evaluate.assess import open_for_networks
from attn_surgeon.evaluate.paired_runs import score_interval
from attn_surgeon.measure.cost import parameters
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.surgery.edit import take_out
from attn_surgeon.surgery.installed_grafts import InstalledGraft, bypassed, list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.tables import Table
from attn_surgeon.tasks import get_task, infer_task
from attn_surgeon.tasks.base import DEFAULT_OPTIONS, Score, ScoreOptions, Task
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.statistics import Interval


@dataclass(frozen=True)
class Removal:
    """A removed graft, or the first that was kept: what the network loses without it and those removed before.

    Args:
        place: where the graft is.
        block: the name of its block.
        parameters: its parameters.
        lost: the metric with all grafts less that without these, with its 95 % interval over images.
        test: the values of the task's paired test.
        removed: whether it was removed.
    """

    place: str
    block: str
    parameters: int
    lost: Interval
    test: Mapping[str, Any]
    removed: bool


@dataclass(frozen=True, repr=False)
class Pruning:
    """A network with fewer grafts, and what each removal costs on the validation images."""

    model: nn.Module
    metric: str
    images: int
    max_loss: float
    before: float
    steps: tuple[Removal, ...]
    kept: int

    @property
    def removed(self) -> tuple[Removal, ...]:
        """The grafts that were removed, in order."""
        return tuple(step for step in self.steps if step.removed)

    @property
    def table(self) -> Table:
        """What each removal costs, together with those before it, in points."""
        removed = counted(len(self.removed), "graft")
        title = f"{removed} removed, {self.kept} kept; {self.metric} with all {100 * self.before:.2f} %"
        columns = ("graft", "block", "parameters", "lost in all", "95 % interval", "")
        return Table(title, columns, tuple(map(_row, self.steps)), columns[2:5])

    @property
    def summary(self) -> str:
        """What the interval says of the loss."""
        if not self.removed:
            return f"No graft can be removed for a loss of at most {self.max_loss:g} points."
        last = self.removed[-1].lost
        verb = "gain" if last.estimate < 0 else "lose"
        return (
            f"All removals together {verb} {100 * abs(last.estimate):.2f} points of {self.metric}; the interval over "
            f"{self.images:,} images reaches to a {_change(last.high)}. The grafts were chosen on these images: on "
            "others the loss may be larger."
        )

    def __repr__(self) -> str:
        return f"{self.table}\n\n{self.summary}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        document = {"metric": self.metric, "images": self.images, "max_loss": self.max_loss, "before": self.before}
        return {**document, "steps": [asdict(step) for step in self.steps], "kept": self.kept, "summary": self.summary}


def _change(lost: float) -> str:
    return f"{'gain' if lost < 0 else 'loss'} of {100 * abs(lost):.2f}"


def _row(step: Removal) -> tuple[str, ...]:
    low, high = 100 * step.lost.low, 100 * step.lost.high
    lost = f"{100 * step.lost.estimate:+.2f}"
    ends = f"{low:+.2f} to {high:+.2f}"
    return step.place, step.block, f"{step.parameters:,}", lost, ends, "removed" if step.removed else "kept"


def prune(
    network: nn.Module | LoadedNetwork,
    *,
    data: str,
    max_loss: float = 0.1,
    certain: bool = False,
    split: str = "val",
    limit: int | None = None,
    task: str | None = None,
    options: ScoreOptions = DEFAULT_OPTIONS,
    progress: Progress = no_progress,
) -> Pruning:
    """Remove grafts, one by one, as long as the network loses at most so many points on validation data.

    Args:
        network: a network with grafts, as `load` returns it. It is not changed.
        data: the data, as for `attn-surgeon evaluate`.
        max_loss: the most points, of 100, that all removals together may lose.
        certain: whether the upper end of the interval must stay below `max_loss`, not just the estimate.
        split: the split of the data.
        limit: use at most so many images, balanced over the classes.
        task: the task, by default inferred from the data.
        options: how images are scored.
        progress: is called with the evaluations done and the most that there can be.

    Returns:
        The network without these grafts, and what each removal costs.

    Raises:
        PlanError: the network has no grafts.
        DataError: the data cannot be read, or does not fit the network.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.artefact.open_network import open_network
        >>> network = open_network("demo")
        >>> model = attn_surgeon.insert(network.model, "se", after="layer*", example=network.example)
        >>> found = attn_surgeon.prune(model, data="demo", limit=50)  # untrained grafts cost nothing
        >>> [(step.place, step.lost.estimate) for step in found.removed][0]
        ('after layer1', 0.0)
        >>> attn_surgeon.list_grafts(found.model)
        []
    """
    if not max_loss >= 0:
        raise SettingsError(f"a loss of {max_loss} points", option("max_loss"), "it must be at least 0")
    given = network if isinstance(network, LoadedNetwork) else LoadedNetwork(network)
    model = set_provenance(copied(given.model), provenance_of(given.model))
    if not list_grafts(model):
        raise PlanError("the network has no grafts", "", "name one with grafts")
    chosen = get_task(task or infer_task(data))
    (images,) = open_for_networks(chosen, [given], data, split, TaskSettings(task=chosen.name, limit=limit))
    return _Pruner(model, chosen, images, options, max_loss, certain).run(progress)


@dataclass(frozen=True)
class _Pruner:
    model: nn.Module
    task: Task
    images: ImageData
    options: ScoreOptions
    max_loss: float
    certain: bool

    def run(self, progress: Progress) -> Pruning:
        full = self.task.score(self.model, self.images, self.options)
        steps: list[Removal] = []
        count, done = len(list_grafts(self.model)), 0
        while grafts := list_grafts(self.model):
            scores = []
            for graft in grafts:
                with bypassed([graft.block]):
                    scores.append(self.task.score(self.model, self.images, self.options))
                done += 1
                progress(done, count * (count + 1) // 2)
            best = max(range(len(grafts)), key=lambda number: scores[number].metric)
            steps.append(self._step(full, scores[best], grafts[best]))
            if not steps[-1].removed:
                break
            take_out(self.model, grafts[best].graft.__eq__)
        left = len(list_grafts(self.model))
        title = self.task.metric.title
        return Pruning(self.model, title, len(full.outcomes), self.max_loss, full.metric, tuple(steps), left)

    def _step(self, full: Score, without: Score, graft: InstalledGraft) -> Removal:
        lost = score_interval([full], [without])
        test = self.task.compare(full.outcomes, without.outcomes)
        reached = 100 * (lost.high if self.certain else lost.estimate)
        size, block = parameters(graft.block), graft.graft.block["name"]
        return Removal(graft.place, block, size, lost, {test.name: test.values}, reached <= self.max_loss)
