"""Score candidates in rounds: after each, the chosen ones take a look-ahead step and the others are scored again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.progress import Progress, no_progress, of_jobs
from attn_surgeon.scouting.candidates import Candidate, Lineup, Opened, keep_open, line_up
from attn_surgeon.scouting.choice import greedy, is_above_zero
from attn_surgeon.scouting.costs import Budget, CandidateCost, candidate_costs
from attn_surgeon.scouting.gradients import Problem
from attn_surgeon.scouting.look_ahead import best_length, steps_against
from attn_surgeon.scouting.scores import Estimate
from attn_surgeon.scouting.scoring import Scored, score_candidates
from attn_surgeon.surgery.sites.selection import Selection, choose
from attn_surgeon.surgery.sites.survey import survey

SEARCH_ROUNDS = 3
PHASES = SEARCH_ROUNDS + 1  # of the progress: the trial comes last
GAIN, GAIN_ERRORS = "gain", 1.0  # the gain must be above zero by one standard error, whatever score is chosen by


def names_needed(name: str, *others: str) -> tuple[str, ...]:
    """Return the definitions to compute: the one to choose by, others, and the gain, which noise does not raise."""
    return tuple(dict.fromkeys((name, GAIN, *others)))


@dataclass(frozen=True)
class Choice:
    """A chosen candidate: the round, counted from 1, its score in that round, and its block after a look-ahead step."""

    round: int
    score: Estimate
    opened: Opened


@dataclass(frozen=True)
class Pass:
    """The scores of all candidates in one state of the network, and the line-ups that they were computed in."""

    parts: Sequence[tuple[Lineup, Scored]]

    @property
    def candidates(self) -> list[Candidate]:
        """The candidates with a score, in the order of the network's modules."""
        order = {path: place for place, (path, _) in enumerate(self.parts[0][0].model.named_modules())}
        paths = {each: lineup.grafts[each] for lineup, scored in self.parts for each in scored.gradients}
        return sorted(paths, key=lambda each: order.get(paths[each].owner, len(order)))

    def scores(self, name: str) -> dict[Candidate, Estimate]:
        """Return the scores of one definition."""
        return {each: own for _, scored in self.parts for each, own in scored.scores[name].items()}

    @property
    def refusals(self) -> list[str]:
        """The sites that cannot take a block, with reasons."""
        return [f"{item.side} {item.site}: {item.reason}" for lineup, _ in self.parts for item in lineup.refusals]

    def costs(self, network: LoadedNetwork) -> tuple[dict[Candidate, CandidateCost], CandidateCost]:
        """Return the costs of all candidates, and that of the network without them."""
        measured = [candidate_costs(lineup, network) for lineup, _ in self.parts]
        return {each: cost for own, _ in measured for each, cost in own.items()}, measured[0][1]


@dataclass(frozen=True)
class Search:
    """What stays the same over the rounds of a search; `at_once` is the most candidates in the network at once."""

    network: LoadedNetwork
    specs: Mapping[str, BlockSpec]
    selection: Selection
    problem: Problem
    at_once: int
    seed: int = 0

    def line_up(self) -> list[Lineup]:
        """Return all candidates, in as many copies of the network as `at_once` asks for."""
        sites = len(choose(survey(self.network.model, self.network.example), self.selection))
        each, specs = max(1, self.at_once // sites), list(self.specs.values())
        groups = [specs[start : start + each] for start in range(0, len(specs), each)]
        return [line_up(self.network, group, self.selection, seed=self.seed) for group in groups]

    def score(self, lineups: Sequence[Lineup], names: Sequence[str], progress: Progress = no_progress) -> Pass:
        """Return the scores of all candidates of line-ups."""
        steps = [of_jobs(progress, number, len(lineups)) for number in range(len(lineups))]
        return Pass([
            (lineup, score_candidates(lineup, self.problem, names, step))
            for lineup, step in zip(lineups, steps, strict=True)
        ])  # fmt: skip

    def choose(
        self,
        first: Pass,
        name: str,
        costs: Mapping[Candidate, CandidateCost],
        budget: Budget,
        progress: Progress = no_progress,
    ) -> dict[Candidate, Choice]:
        """Return the set that fits the budget, chosen in rounds that each use a part of it."""
        chosen: dict[Candidate, Choice] = {}
        current = first
        for number in range(1, SEARCH_ROUNDS + 1):
            if number > 1:
                opened = {each: choice.opened for each, choice in chosen.items()}
                example, lineups = self.network.example, [lineup for lineup, _ in current.parts]
                lineups = [keep_open(lineup, opened, example, self.seed) for lineup in lineups]
                current = self.score(lineups, names_needed(name), of_jobs(progress, number - 1, PHASES))
            gains = current.scores(GAIN)
            scores = {
                each: own for each, own in current.scores(name).items() if is_above_zero(gains[each], GAIN_ERRORS)
            }
            added = greedy(scores, costs, budget, taken=chosen, until=number / SEARCH_ROUNDS)
            if not added:
                break
            moved = self._step(current, added)
            chosen |= {each: Choice(number, scores[each], moved[each]) for each in added}
        return chosen

    def _step(self, current: Pass, added: Sequence[Candidate]) -> dict[Candidate, Opened]:
        """Take a look-ahead step with candidates, and return their blocks with the states that they then have."""
        opened: dict[Candidate, Opened] = {}
        for lineup, scored in current.parts:
            own = {each: scored.gradients[each] for each in added if each in scored.gradients}
            if own:
                steps = steps_against(lineup, own)
                length = best_length(lineup, self.problem, steps, self.problem.part(0, 2))
                for each, step in steps.items():
                    lineup.move(each, length * step)
                    opened[each] = self.specs[each.block], lineup.grafts[each].block.state_dict()
        return opened
