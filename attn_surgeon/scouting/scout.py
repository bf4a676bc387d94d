"""Scout a network: score blocks at sites by gradients before any training, and choose a set under a budget."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from attn_surgeon.artefact.header import ARTEFACT_SUFFIX
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.blocks import BlockSpec, import_user_blocks
from attn_surgeon.errors import option
from attn_surgeon.networks.preprocessing import DEFAULT_PREPROCESSING, PreprocessingOverrides
from attn_surgeon.progress import Progress, no_progress, of_jobs
from attn_surgeon.scouting.batches import Draws, draw_batches, with_measured
from attn_surgeon.scouting.candidates import Candidate
from attn_surgeon.scouting.costs import Budget, CandidateCost, read_budget
from attn_surgeon.scouting.gradients import Problem
from attn_surgeon.scouting.head import fit_linear_head
from attn_surgeon.scouting.result import ScoutedCandidate, Scouting
from attn_surgeon.scouting.search import PHASES, Choice, Pass, Search, names_needed
from attn_surgeon.scouting.settings import BLOCKS, DEFAULT_SITES, ScoutSettings
from attn_surgeon.scouting.trial import run_trial
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.sites.selection import Selection, Selectors
from attn_surgeon.tasks import get_task, infer_task
from attn_surgeon.tasks.settings import TaskSettings

NOTED_LATENCY = 0.2  # of the network's: a set that takes more is noted where no limit was asked for


def scout(  # noqa: PLR0913 - what to score, where, on what data and for which budget are keywords of their own
    network: str | nn.Module,
    *,
    data: str,
    blocks: Sequence[str] = BLOCKS,
    at: Selectors = (),
    after: Selectors = (),
    before: Selectors = (),
    exclude: Selectors = (),
    budget: str | float = "5%",
    latency: str | None = None,
    task: str | None = None,
    settings: ScoutSettings | None = None,
    size: tuple[int, int] | None = None,
    progress: Progress = no_progress,
) -> Scouting:
    """Score blocks at the chosen sites by gradients before any training, and choose a set under a budget.

    All candidates stand in a copy of the network as exact identities, so one backward pass gives the gradient of each
    as if it were there alone. The network itself is not changed.

    Args:
        network: a network, a source such as `"timm/resnet50"`, or the path of an artefact.
        data: the data, as for `attn-surgeon finetune`; candidates are scored on its training images.
        blocks: the names of the blocks.
        at: groups of sites, as for `insert`; by default `stages` and `residual`.
        after: selectors of sites.
        before: selectors of sites.
        exclude: selectors of sites to leave out.
        budget: the most parameters that the set may add: `"5%"` of the network's, or a number.
        latency: the most time that the set's blocks may take for one image: `"10%"` of the network's.
        task: the task, by default inferred from the data.
        settings: how candidates are scored.
        size: the size (H, W) of the images, for a network whose size is not known.
        progress: is called with the steps done and their total.

    Returns:
        All candidates with their scores and costs, the chosen set, and its recipe.

    Raises:
        DataError: the data cannot be read, or has too few images.
        BlockError: a block is unknown.
        SelectorError: a selector chooses no site.
        PlanError: no site can take any of the blocks.
        SettingsError: a budget or the name of a score cannot be read.

    Example:
        >>> import attn_surgeon
        >>> from attn_surgeon.scouting.settings import ScoutSettings
        >>> quick = ScoutSettings(batches=4, batch_size=8, head_images=32, trial_steps=5)
        >>> found = attn_surgeon.scout("demo", data="demo-clutter", blocks=["se"], at="stages", settings=quick)
        >>> [each.candidate.place for each in found.candidates]
        ['after layer1', 'after layer2', 'after layer3']
        >>> all(each.cost.parameters <= found.budget.parameters for each in found.chosen)
        True
    """
    opened = _opened(network, size)
    return scout_network(
        opened,
        name=network if isinstance(network, str) else opened.name,
        data=data,
        blocks=blocks,
        at=at,
        after=after,
        before=before,
        exclude=exclude,
        budget=budget,
        latency=latency,
        task=task,
        settings=settings,
        progress=progress,
    )


def scout_network(  # noqa: PLR0913 - the arguments of scout
    opened: LoadedNetwork,
    *,
    name: str,
    data: str,
    blocks: Sequence[str],
    at: Selectors = (),
    after: Selectors = (),
    before: Selectors = (),
    exclude: Selectors = (),
    budget: str | float = "5%",
    latency: str | None = None,
    task: str | None = None,
    settings: ScoutSettings | None = None,
    progress: Progress = no_progress,
) -> Scouting:
    """Scout a network that was opened from `name`; the arguments are those of `scout`."""
    since, settings = time.perf_counter(), settings or ScoutSettings()
    specs = {
        spec.name: spec for spec in (BlockSpec.read(import_user_blocks(block), {}) for block in dict.fromkeys(blocks))
    }
    named = {"at": at, "after": after, "before": before} if at or after or before else {"at": DEFAULT_SITES}
    selection = Selection.read(exclude=exclude, **named)
    loaded, problem, draws, notes = _prepared(opened, data, task, settings)
    search = Search(loaded, specs, selection, problem, settings.at_once, settings.seed)
    first = search.score(search.line_up(), names_needed(settings.score, *settings.report), of_jobs(progress, 0, PHASES))
    costs, base = first.costs(loaded)
    seconds = None if latency is None else read_budget(latency, base.seconds, "latency", percent_only=True)
    limits = Budget(read_budget(budget, base.parameters, "budget"), seconds)
    chosen = search.choose(first, settings.score, costs, limits, progress)
    added = sum(costs[each].seconds for each in chosen)
    placed = [(specs[each.block], each) for each in chosen]
    trial = None
    if placed and settings.trial_steps:
        last = of_jobs(progress, PHASES - 1, PHASES)
        trial = run_trial(loaded, placed, problem.task, draws, settings.trial_steps, settings.seed, last)
    return Scouting(
        network=name,
        data=data,
        score=settings.score,
        images=settings.batch_size * len(problem.batches),
        candidates=_candidates(first, costs, chosen),
        base=base,
        budget=limits,
        recipe=_recipe(name, opened, placed),
        trial=trial,
        seconds=time.perf_counter() - since,
        notes=(*opened.notes, *notes, *first.refusals, *_latency_notes(limits, added / base.seconds)),
    )


def _opened(network: str | nn.Module, size: tuple[int, int] | None) -> LoadedNetwork:
    """Return a network that may be changed; one that was passed is copied."""
    if isinstance(network, str):
        return open_network(network, images=PreprocessingOverrides(size=size))
    provenance = provenance_of(network)
    images = PreprocessingOverrides(size=size).applied(provenance.preprocessing or DEFAULT_PREPROCESSING)
    return LoadedNetwork(set_provenance(copied(network), replace(provenance, preprocessing=images)))


def _prepared(
    opened: LoadedNetwork, data: str, name: str | None, settings: ScoutSettings
) -> tuple[LoadedNetwork, Problem, Draws, tuple[str, ...]]:
    """Open the data, fit the head, and return a copy of the network, the problem, the images, and notes."""
    task = get_task(name or infer_task(data))
    given = TaskSettings(task=task.name, augment=False, seed=settings.seed)
    splits = task.open_splits(data, opened.preprocessing, given)
    model = set_provenance(copied(opened.model), opened.provenance)
    loaded = task.fit_head(replace(opened, model=model, notes=()), splits.train.class_names, given)
    loaded.model.to(settings.device)
    draws = draw_batches(
        splits, settings.batches, settings.batch_size, settings.head_images, settings.seed, settings.device
    )
    if settings.trial_steps:
        draws = with_measured(draws, splits, settings.batch_size, settings.seed, settings.device)
    notes = (*loaded.notes, *splits.report.notes)
    if settings.fit_head or (settings.fit_head is None and loaded.fresh):
        fit_linear_head(loaded.model, loaded.example, task, given, draws.head)
        notes += (f"the head was fitted on {settings.head_images:,} images at most, with everything else frozen",)
    return loaded, Problem(task, given, draws.scored, settings.seed), draws, notes


def _latency_notes(limits: Budget, share: float) -> list[str]:
    """Return a note where the set takes much time and no limit was asked for."""
    if limits.seconds is not None or share <= NOTED_LATENCY:
        return []
    limit = option("latency", f"{NOTED_LATENCY:.0%}")
    return [f"the set adds {share:.0%} to the measured latency, which was not limited; {limit} limits it"]


def _candidates(
    first: Pass, costs: Mapping[Candidate, CandidateCost], chosen: Mapping[Candidate, Choice]
) -> tuple[ScoutedCandidate, ...]:
    by_name = {name: first.scores(name) for name in first.parts[0][1].scores}
    return tuple(
        ScoutedCandidate(
            each,
            {name: scores[each] for name, scores in by_name.items()},
            costs[each],
            chosen[each].round if each in chosen else None,
            chosen[each].score if each in chosen else None,
        )
        for each in first.candidates
    )


def _recipe(name: str, opened: LoadedNetwork, chosen: Sequence[tuple[BlockSpec, Candidate]]) -> dict[str, Any]:
    """Return the recipe of a network with the chosen candidates, one operation for each block and side."""
    stored = opened.provenance.source.to_dict()
    source = {"name": opened.provenance.source.text, "weights": stored["weights"], "args": stored["args"]}
    if name.endswith(ARTEFACT_SUFFIX):
        source = {"name": name}
    operations: dict[tuple[str, str], dict[str, Any]] = {}
    for spec, each in chosen:
        step = operations.setdefault((spec.name, each.side), {"block": spec.name, "options": dict(spec.options)})
        step.setdefault(each.side, []).append(each.site)
    images: dict[str, Any] = {"size": list(opened.preprocessing.size)}
    if not opened.preprocessing.assumed:
        images |= {"mean": list(opened.preprocessing.mean), "std": list(opened.preprocessing.std)}
    return {"source": source, "images": images, "operations": [{"insert": step} for step in operations.values()]}
