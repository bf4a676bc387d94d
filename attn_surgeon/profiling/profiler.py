"""Time networks in turn, in each runtime and at each batch size, and measure what each graft costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.errors import ExportError, first_line
from attn_surgeon.measure.cost import graft_costs
from attn_surgeon.measure.latency import ROUNDS, Latency, by_turns, summarise, timed
from attn_surgeon.profiling.inputs import ProfileInput, cost_of, images, memory
from attn_surgeon.profiling.runtimes import RUNTIMES, Running, Work
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.installed import bypassed, list_grafts
from attn_surgeon.surgery.isolation import mode

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class ProfileSettings:
    """What to measure: on a device, in runtimes, at batch sizes, each for a number of rounds."""

    device: torch.device
    runtimes: Sequence[str]
    batches: Sequence[int]
    rounds: int = ROUNDS


def profile(
    inputs: Sequence[ProfileInput], settings: ProfileSettings, progress: StepProgress = no_steps
) -> dict[str, Any]:
    """Profile networks side by side; the cost of grafts is measured for the first one.

    Returns:
        JSON values. Milliseconds are medians over rounds with their quartiles; `spread_ms` is the interquartile range.
        `ratio` is the median over rounds of a network's time over the last one's in the same round, None where that
        one was not timed.

    Raises:
        ExportError: no runtime runs any of them.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for runtime in settings.runtimes:
        progress(runtime)
        found, more = _in_runtime(inputs, runtime, settings)
        rows += found
        notes += more
    if not rows:
        raise ExportError(f"nothing was measured: {'; '.join(notes)}")
    progress("count")
    networks = [_network(item, settings) for item in inputs]
    progress("grafts")
    memories = networks[0]["activation_bytes"] or {}
    batch = next((batch for batch in memories if memories[batch] is not None), 1)
    grafts = _grafts(inputs[0], batch, settings)
    return {"networks": networks, "runs": rows, "grafts_batch": batch, "grafts": grafts, "notes": notes}


def _network(item: ProfileInput, settings: ProfileSettings) -> Row:
    given = item.given
    held = (
        {n: _memory(given, n, settings.device) for n in settings.batches} if isinstance(given, LoadedNetwork) else None
    )
    return {"name": item.name, **asdict(cost_of(item)), "activation_bytes": held}


def _memory(loaded: LoadedNetwork, batch: int, device: torch.device) -> int | None:
    try:
        return memory(loaded, batch, device)
    except Exception:  # timing reports a batch that does not run
        return None


def _in_runtime(inputs: Sequence[ProfileInput], runtime: str, settings: ProfileSettings) -> tuple[list[Row], list[str]]:
    """Time the networks that a runtime runs, in turn; notes name the others."""
    notes: list[str] = []
    rows = []
    with ExitStack() as stack:
        running, failures = _try_each(
            inputs, lambda each: stack.enter_context(RUNTIMES[runtime](each, settings.device))
        )
        notes += [*_failed(runtime, failures), *(note for each in running.values() for note in each.notes)]
        for batch in settings.batches if running else ():
            runs = [item for item in inputs if item.name in running]
            works, failures = _try_each(runs, partial(_work, running, batch))
            notes += _failed(f"{runtime} at batch {batch}", failures)
            timings = _timed(works, running, batch, settings.rounds, inputs[-1].name)
            rows += [{"runtime": runtime, "batch": batch, **row} for row in timings]
    return rows, notes


def _try_each(inputs: Sequence[ProfileInput], make: Callable[[ProfileInput], T]) -> tuple[dict[str, T], dict[str, str]]:
    """Return what is made of each input by name, and the reasons for those that fail."""
    made, failures = {}, {}
    for item in inputs:
        try:
            made[item.name] = make(item)
        except ExportError as error:
            failures[item.name] = "; ".join(filter(None, (error.what, error.where, error.hint)))
        except Exception as error:  # whatever the network's code raises, or too little memory
            failures[item.name] = first_line(error)
    return made, failures


def _failed(runtime: str, failures: Mapping[str, str]) -> list[str]:
    """Return one line for each reason: which networks a runtime does not run."""
    return [
        f"{runtime} does not run {' and '.join(name for name in failures if failures[name] == why)}: {why}"
        for why in dict.fromkeys(failures.values())
    ]


def _work(running: Mapping[str, Running], batch: int, item: ProfileInput) -> Work:
    with torch.inference_mode():
        work = running[item.name].work(batch)
        work()
    return work


def _timed(
    works: Mapping[str, Work], running: Mapping[str, Running], batch: int, rounds: int, beside: str
) -> list[Row]:
    if not works:
        return []
    with torch.inference_mode():
        turns = dict(zip(works, by_turns(list(works.values()), rounds), strict=True))
    return [_row(name, running[name].on, batch, turn, turns.get(beside)) for name, turn in turns.items()]


def _row(name: str, on: str, batch: int, seconds: Sequence[float], others: Sequence[float] | None) -> Row:
    latency = summarise(seconds)
    return {
        "network": name,
        "on": on,
        "median_ms": 1e3 * latency.median,
        "spread_ms": 1e3 * latency.spread,
        "quartiles_ms": [1e3 * latency.lower, 1e3 * latency.upper],
        "images_per_second": batch / latency.median,
        "ratio": others and statistics.median(one / other for one, other in zip(seconds, others, strict=True)),
    }


def _grafts(item: ProfileInput, batch: int, settings: ProfileSettings) -> list[Row]:
    """Return the cost of each graft, and the milliseconds that eager PyTorch saves without it."""
    if not isinstance(item.given, LoadedNetwork) or not list_grafts(item.given.model):
        return []
    loaded = item.given
    model, x = loaded.model.to(settings.device), images(loaded, batch, settings.device)
    costs = graft_costs(model, loaded.example.to(settings.device))
    saved = savings(model, x, settings.rounds)
    return [
        {
            "site": f"{made.graft.side} {made.graft.site}",
            "block": made.graft.block["name"],
            **asdict(costs[made.path]),
            "saves_ms": 1e3 * saved[made.path].median,
            "saves_spread_ms": 1e3 * saved[made.path].spread,
            "saves_quartiles_ms": [1e3 * saved[made.path].lower, 1e3 * saved[made.path].upper],
        }
        for made in list_grafts(model)
    ]


def savings(model: nn.Module, x: Tensor, rounds: int = ROUNDS) -> dict[str, Latency]:
    """Return the seconds that bypassing each graft alone saves, from the differences within each round."""
    made = list_grafts(model)
    works = [partial(timed, model, x), *(partial(_without, model, item.block, x) for item in made)]
    with mode(model, training=False), torch.inference_mode():
        whole, *others = by_turns(works, rounds, again=False)  # the weights are the same, so the caches stay warm
    found = {}
    for item, other in zip(made, others, strict=True):
        found[item.path] = summarise([full - less for full, less in zip(whole, other, strict=True)])
    return found


def _without(model: nn.Module, block: nn.Module, x: Tensor) -> float:
    with bypassed([block]):
        return timed(model, x)
