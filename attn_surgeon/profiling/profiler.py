"""Time networks in interleaved rounds, in each runtime and at each batch size, and measure the cost of each graft."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.errors import ExportError, first_line
from attn_surgeon.measure.cost import graft_costs
from attn_surgeon.measure.latency import ROUNDS, Latency, summarise, time_interleaved, timed
from attn_surgeon.profiling.profiled_network import ProfileInput, cost_of, images, memory
from attn_surgeon.profiling.runtimes import RUNTIMES, PreparedRuntime, Work
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts
from attn_surgeon.surgery.isolation import mode

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class ProfileSettings:
    """The device, the runtimes, the batch sizes and the number of rounds of a profile."""

    device: torch.device
    runtimes: Sequence[str]
    batches: Sequence[int]
    rounds: int = ROUNDS


def profile(
    inputs: Sequence[ProfileInput], settings: ProfileSettings, progress: StepProgress = no_steps
) -> dict[str, Any]:
    """Profile networks side by side, and the grafts of the first one.

    Returns:
        JSON values. Milliseconds are medians over rounds with their quartiles; `spread_ms` is the interquartile range.
        `ratio` is the median over rounds of a network's time divided by that of the last network in the same round;
        None where the last network was not timed.

    Raises:
        ExportError: no runtime runs any of the networks.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for runtime in settings.runtimes:
        progress(runtime)
        runtime_rows, runtime_notes = _in_runtime(inputs, runtime, settings)
        rows += runtime_rows
        notes += runtime_notes
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
    memory_by_batch = None
    if isinstance(item.source, LoadedNetwork):
        memory_by_batch = {batch: _memory(item.source, batch, settings.device) for batch in settings.batches}
    return {"name": item.name, **asdict(cost_of(item)), "activation_bytes": memory_by_batch}


def _memory(loaded: LoadedNetwork, batch: int, device: torch.device) -> int | None:
    try:
        return memory(loaded, batch, device)
    except Exception:  # the notes of the timing say why a batch does not run
        return None


def _in_runtime(inputs: Sequence[ProfileInput], runtime: str, settings: ProfileSettings) -> tuple[list[Row], list[str]]:
    """Time the networks that a runtime can run; notes name the others, with the reason."""
    notes: list[str] = []
    rows = []
    with ExitStack() as stack:
        prepared, failures = _try_each(
            inputs, lambda each: stack.enter_context(RUNTIMES[runtime](each, settings.device))
        )
        notes += [*_failed(runtime, failures), *(note for each in prepared.values() for note in each.notes)]
        for batch in settings.batches if prepared else ():
            runs = [item for item in inputs if item.name in prepared]
            works, failures = _try_each(runs, partial(_work, prepared, batch))
            notes += _failed(f"{runtime} at batch {batch}", failures)
            timings = _timed(works, prepared, batch, settings.rounds, inputs[-1].name)
            rows += [{"runtime": runtime, "batch": batch, **row} for row in timings]
    return rows, notes


def _try_each(inputs: Sequence[ProfileInput], make: Callable[[ProfileInput], T]) -> tuple[dict[str, T], dict[str, str]]:
    """Return the results of `make` by the name of the input, and the error messages where it raised."""
    results, failures = {}, {}
    for item in inputs:
        try:
            results[item.name] = make(item)
        except ExportError as error:
            failures[item.name] = "; ".join(filter(None, (error.what, error.where, error.hint)))
        except Exception as error:  # of any kind: from the network's code, or out of memory
            failures[item.name] = first_line(error)
    return results, failures


def _failed(runtime: str, failures: Mapping[str, str]) -> list[str]:
    """Return a line for each reason, with the networks that a runtime does not run for it."""
    return [
        f"{runtime} does not run {' and '.join(name for name in failures if failures[name] == why)}: {why}"
        for why in dict.fromkeys(failures.values())
    ]


def _work(prepared: Mapping[str, PreparedRuntime], batch: int, item: ProfileInput) -> Work:
    with torch.inference_mode():
        work = prepared[item.name].work(batch)
        work()
    return work


def _timed(
    works: Mapping[str, Work], prepared: Mapping[str, PreparedRuntime], batch: int, rounds: int, reference: str
) -> list[Row]:
    if not works:
        return []
    with torch.inference_mode():
        timings = dict(zip(works, time_interleaved(list(works.values()), rounds), strict=True))
    return [_row(name, prepared[name].on, batch, seconds, timings.get(reference)) for name, seconds in timings.items()]


def _row(name: str, on: str, batch: int, seconds: Sequence[float], reference: Sequence[float] | None) -> Row:
    latency = summarise(seconds)
    return {
        "network": name,
        "on": on,
        "median_ms": 1e3 * latency.median,
        "spread_ms": 1e3 * latency.spread,
        "quartiles_ms": [1e3 * latency.lower, 1e3 * latency.upper],
        "images_per_second": batch / latency.median,
        "ratio": reference and statistics.median(map(operator.truediv, seconds, reference)),
    }


def _grafts(item: ProfileInput, batch: int, settings: ProfileSettings) -> list[Row]:
    """Return the cost of each graft, and the milliseconds that bypassing it saves in eager PyTorch."""
    if not isinstance(item.source, LoadedNetwork) or not list_grafts(item.source.model):
        return []
    loaded = item.source
    model, x = loaded.model.to(settings.device), images(loaded, batch, settings.device)
    costs = graft_costs(model, loaded.example.to(settings.device))
    saved = savings(model, x, settings.rounds)
    return [
        {
            "site": installed.place,
            "block": installed.graft.block["name"],
            **asdict(costs[installed.path]),
            "saves_ms": 1e3 * saved[installed.path].median,
            "saves_spread_ms": 1e3 * saved[installed.path].spread,
            "saves_quartiles_ms": [1e3 * saved[installed.path].lower, 1e3 * saved[installed.path].upper],
        }
        for installed in list_grafts(model)
    ]


def savings(model: nn.Module, x: Tensor, rounds: int = ROUNDS) -> dict[str, Latency]:
    """Return the seconds that bypassing each graft alone saves, from the differences within each round, by path."""
    grafts = list_grafts(model)
    works = [partial(timed, model, x), *(partial(_timed_without, model, graft.block, x) for graft in grafts)]
    with mode(model, training=False), torch.inference_mode():
        with_all, *without = time_interleaved(works, rounds, twice=False)  # the same weights, so the caches stay warm
    return {
        graft.path: summarise(list(map(operator.sub, with_all, seconds)))
        for graft, seconds in zip(grafts, without, strict=True)
    }


def _timed_without(model: nn.Module, block: nn.Module, x: Tensor) -> float:
    with bypassed([block]):
        return timed(model, x)
