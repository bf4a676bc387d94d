"""Scores and fine-tunes of the same candidates as lines of a file: what is there is not computed again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any

from attn_surgeon.measure.cost import graft_costs
from attn_surgeon.scouting.batches import draw_batches
from attn_surgeon.scouting.candidates import Candidate
from attn_surgeon.scouting.gradients import Problem
from attn_surgeon.scouting.scores import SCORES
from attn_surgeon.scouting.scoring import LOOK_AHEAD, score_candidates

from .bench import TASK, Bench

HEAD_ONLY = "head only"
Line = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What the file has, and how what is missing is computed; the bench is opened where something is."""

    file: Path
    open_bench: Callable[[], Bench]

    @cached_property
    def bench(self) -> Bench:
        """The network with its images."""
        return self.open_bench()

    @cached_property
    def lines(self) -> dict[str, Line]:
        """The lines by their keys; the last one is left out where a killed run has cut it off."""
        text = self.file.read_text() if self.file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self.file.write_text(whole)
        return {line["key"]: line for line in map(json.loads, whole.splitlines())}

    def run(self, seeds: Sequence[int]) -> None:
        """Compute scores by gradients, fine-tunes, all of one seed first, and look-ahead scores, which take longest."""
        for seed in seeds:
            self._line(f"scores {seed}", partial(self._scores, seed, tuple(SCORES)))
        for seed in seeds:
            names = list(self.lines["scores 0"]["trained"])
            starts = self.lines["scores 0"]["starts"]
            wanted = [name for name in [HEAD_ONLY, *names] if f"{name} {seed}" not in self.lines]
            for position, group in groupby(wanted, key=lambda name: starts.get(name, starts[names[0]])):
                data = self.bench.features(position)
                for name in group:
                    self._line(f"{name} {seed}", partial(self._fine_tune, name, seed, position, data))
        for seed in seeds:
            self._line(f"look-ahead {seed}", partial(self._scores, seed, tuple(LOOK_AHEAD)))

    def _line(self, key: str, make: Callable[[], Line]) -> None:
        if key in self.lines:
            return
        since, busy = time.perf_counter(), time.process_time()
        made = make()
        spent = {"seconds": time.perf_counter() - since, "cpu_seconds": time.process_time() - busy}
        self.lines[key] = {"key": key, **made, **spent}
        with self.file.open("a") as file:
            file.write(json.dumps(self.lines[key]) + "\n")

    def _fine_tune(self, name: str, seed: int, position: int, data: Any) -> Line:
        return self.bench.fine_tune(None if name == HEAD_ONLY else read(name), seed, position, data)

    def _scores(self, seed: int, names: Sequence[str]) -> Line:
        """Score all candidates on the batches of a seed, which other seeds do not have."""
        bench, size = self.bench, self.bench.size
        draws = draw_batches(bench.splits, size.batches, size.batch_size, 1, seed)
        since, lineup = time.process_time(), bench.line_up(seed)
        scored = score_candidates(lineup, Problem(TASK, bench.settings, draws.scored, seed), names)
        spent = time.process_time() - since
        costs = graft_costs(lineup.model, bench.network.example)
        paths = {each: lineup.grafts[each].path for each in scored.gradients}
        starts = bench.starts(lineup)
        return {
            "scores": {
                name: {text(each): [own.value, own.error] for each, own in of.items()}
                for name, of in scored.scores.items()
            },
            "parameters": {text(each): costs[path].parameters for each, path in paths.items()},
            "depth": {text(each): depth for depth, each in enumerate(paths)},
            "trained": [text(each) for each in starts],
            "starts": {text(each): position for each, position in starts.items()},
            "scoring_cpu_seconds": spent,
        }


def text(candidate: Candidate) -> str:
    """Write a candidate as text."""
    return f"{candidate.block} {candidate.place}"


def read(name: str) -> Candidate:
    """Read a candidate from its text."""
    block, side, site = name.split(" ", 2)
    return Candidate(site, side, block)  # type: ignore[arg-type]
