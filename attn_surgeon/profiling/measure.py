"""Time networks by turns in each runtime and at each batch, and tell what every graft costs."""

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
from attn_surgeon.measure.latency import ROUNDS, by_turns, summarise, timed
from attn_surgeon.profiling.entrant import Entrant, images, memory, size_of
from attn_surgeon.profiling.runtimes import RUNTIMES, Running, Work
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.installed import bypassed, list_grafts
from attn_surgeon.surgery.isolation import mode

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """Where and how to measure."""

    device: torch.device
    runtimes: Sequence[str]
    batches: Sequence[int]
    rounds: int = ROUNDS


def profile(entrants: Sequence[Entrant], wanted: Wanted, progress: StepProgress = no_steps) -> dict[str, Any]:
    """Describe networks, the first beside the others; raise ExportError where no runtime runs any.

    Milliseconds are medians of the rounds, with the distance of their quartiles as spread. `ratio` is the median over
    rounds of a network's time over that of the one it is beside, in the same round; None where that was not timed.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for runtime in wanted.runtimes:
        progress(runtime)
        found, said = _in_runtime(entrants, runtime, wanted)
        rows += found
        notes += said
    if not rows:
        raise ExportError(f"nothing was measured: {'; '.join(notes)}")
    progress("count")
    networks = [_network(entrant, wanted) for entrant in entrants]
    progress("grafts")
    held = networks[0]["activation_bytes"] or {}
    batch = next((batch for batch in held if held[batch] is not None), 1)
    grafts = _grafts(entrants[0], batch, wanted)
    return {"networks": networks, "runs": rows, "grafts_batch": batch, "grafts": grafts, "notes": notes}


def _network(entrant: Entrant, wanted: Wanted) -> Row:
    given = entrant.given
    held = {n: _held(given, n, wanted.device) for n in wanted.batches} if isinstance(given, LoadedNetwork) else None
    return {"name": entrant.name, **asdict(size_of(entrant)), "activation_bytes": held}


def _held(loaded: LoadedNetwork, batch: int, device: torch.device) -> int | None:
    try:
        return memory(loaded, batch, device)
    except Exception:  # the timings tell of a batch that does not run
        return None


def _in_runtime(entrants: Sequence[Entrant], runtime: str, wanted: Wanted) -> tuple[list[Row], list[str]]:
    """Time those that a runtime runs, by turns; notes tell of the others."""
    notes: list[str] = []
    rows = []
    with ExitStack() as stack:
        running, refused = _tried(entrants, lambda each: stack.enter_context(RUNTIMES[runtime](each, wanted.device)))
        notes += [*_refused(runtime, refused), *(note for each in running.values() for note in each.notes)]
        for batch in wanted.batches if running else ():
            runs = [entrant for entrant in entrants if entrant.name in running]
            works, refused = _tried(runs, partial(_work, running, batch))
            notes += _refused(f"{runtime} at batch {batch}", refused)
            timings = _timed(works, running, batch, wanted.rounds, entrants[-1].name)
            rows += [{"runtime": runtime, "batch": batch, **row} for row in timings]
    return rows, notes


def _tried(entrants: Sequence[Entrant], make: Callable[[Entrant], T]) -> tuple[dict[str, T], dict[str, str]]:
    """Make something of each entrant, by name; of those that cannot be, give the reasons."""
    made, refused = {}, {}
    for entrant in entrants:
        try:
            made[entrant.name] = make(entrant)
        except ExportError as error:
            refused[entrant.name] = str(error)
        except Exception as error:  # whatever the network's code raises, or memory that does not suffice
            refused[entrant.name] = first_line(error)
    return made, refused


def _refused(runtime: str, refused: Mapping[str, str]) -> list[str]:
    """Say in one line for each reason what a runtime does not run."""
    return [
        f"{runtime} does not run {' and '.join(name for name in refused if refused[name] == why)}: {why}"
        for why in dict.fromkeys(refused.values())
    ]


def _work(running: Mapping[str, Running], batch: int, entrant: Entrant) -> Work:
    with torch.inference_mode():
        work = running[entrant.name].work(batch)
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
        "images_per_second": batch / latency.median,
        "ratio": others and statistics.median(one / other for one, other in zip(seconds, others, strict=True)),
    }


def _grafts(entrant: Entrant, batch: int, wanted: Wanted) -> list[Row]:
    """Tell of each graft its cost, and the milliseconds that PyTorch saves without it."""
    if not isinstance(entrant.given, LoadedNetwork) or not list_grafts(entrant.given.model):
        return []
    loaded = entrant.given
    model, x = loaded.model.to(wanted.device), images(loaded, batch, wanted.device)
    costs = graft_costs(model, loaded.example.to(wanted.device))
    saved = savings(model, x, wanted.rounds)
    return [
        {
            "site": f"{made.graft.side} {made.graft.site}",
            "block": made.graft.block["name"],
            **asdict(costs[made.path]),
            "saves_ms": 1e3 * saved[made.path][0],
            "saves_spread_ms": 1e3 * saved[made.path][1],
        }
        for made in list_grafts(model)
    ]


def savings(model: nn.Module, x: Tensor, rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """Give the seconds that bypassing each graft alone saves, median and spread of differences within a round."""
    made = list_grafts(model)
    works = [partial(timed, model, x), *(partial(_without, model, item.block, x) for item in made)]
    with mode(model, training=False), torch.inference_mode():
        whole, *others = by_turns(works, rounds, again=False)  # all have the same weights
    found = {}
    for item, other in zip(made, others, strict=True):
        saved = summarise([full - less for full, less in zip(whole, other, strict=True)])
        found[item.path] = (saved.median, saved.spread)
    return found


def _without(model: nn.Module, block: nn.Module, x: Tensor) -> float:
    with bypassed([block]):
        return timed(model, x)
