"""Scores and fine-tunes of the same candidates as lines of a file: what is there is not computed again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import Any

from attn_surgeon.measure.cost import graft_costs
from attn_surgeon.scouting.batches import draw_batches
from attn_surgeon.scouting.candidates import Candidate
from attn_surgeon.scouting.gradients import Problem
from attn_surgeon.scouting.scores import SCORES
from attn_surgeon.scouting.scoring import LOOK_AHEAD, score_candidates

from .bench import TASK, Bench
from .lines import Line, Lines

HEAD_ONLY = "head only"


@dataclass(frozen=True)
class Study:
    """What is known, and how what is missing is computed; the bench is opened where something is."""

    lines: Lines
    open_bench: Callable[[], Bench]

    @cached_property
    def bench(self) -> Bench:
        """The network with its images."""
        return self.open_bench()

    def run(self, seeds: Sequence[int]) -> None:
        """Compute scores by gradients, fine-tunes, all of one seed first, and look-ahead scores, which take longest."""
        for seed in seeds:
            self.lines.add(f"scores {seed}", partial(self._scores, seed, tuple(SCORES)))
        for seed in seeds:
            names = list(self.lines.known["scores 0"]["trained"])
            starts = self.lines.known["scores 0"]["starts"]
            wanted = [name for name in [HEAD_ONLY, *names] if f"{name} {seed}" not in self.lines.known]
            for position, group in groupby(wanted, key=lambda name: starts.get(name, starts[names[0]])):
                data = self.bench.features(position)
                for name in group:
                    self.lines.add(f"{name} {seed}", partial(self._fine_tune, name, seed, position, data))
        for seed in seeds:
            self.lines.add(f"look-ahead {seed}", partial(self._scores, seed, tuple(LOOK_AHEAD)))

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
