"""The result of scouting: all candidates with their scores and costs, the chosen set, and its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from attn_surgeon.errors import counted, for_python
from attn_surgeon.files import write_atomically
from attn_surgeon.scouting.candidates import Candidate
from attn_surgeon.scouting.costs import Budget, CandidateCost
from attn_surgeon.scouting.scores import Estimate
from attn_surgeon.scouting.search import SEARCH_ROUNDS
from attn_surgeon.scouting.trial import ScoutTrial
from attn_surgeon.tables import Table

MOST_ROWS = 25  # in the printed table


@dataclass(frozen=True)
class ScoutedCandidate:
    """A candidate with its scores by definition and its cost.

    Args:
        candidate: the block and its site.
        scores: the scores before any step.
        cost: what it costs.
        round: the round in which it was chosen, counted from 1; None where it was not.
        when_chosen: its score in that round, after the steps of those chosen before.
    """

    candidate: Candidate
    scores: Mapping[str, Estimate]
    cost: CandidateCost
    round: int | None = None
    when_chosen: Estimate | None = None


@dataclass(frozen=True, repr=False)
class Scouting:
    """Where attention is expected to pay in a network, before training.

    Args:
        network: the network's name.
        data: the data.
        score: the definition that the set was chosen by.
        images: the number of images that candidates were scored on.
        candidates: all candidates in the order of the network's modules.
        base: parameters and seconds of the network without them.
        budget: what the set may cost.
        recipe: the recipe that inserts the chosen set, as plain data, without operations where none is chosen.
        trial: what a few steps of training gave; None where none was made.
        seconds: how long it took.
        notes: remarks for the user.
    """

    network: str
    data: str
    score: str
    images: int
    candidates: tuple[ScoutedCandidate, ...]
    base: CandidateCost
    budget: Budget
    recipe: Mapping[str, Any]
    trial: ScoutTrial | None
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def chosen(self) -> tuple[ScoutedCandidate, ...]:
        """The chosen set, in the order in which it was chosen."""
        return tuple(sorted((each for each in self.candidates if each.round), key=lambda each: each.round or 0))

    @property
    def operations(self) -> list[dict[str, Any]]:
        """The keyword arguments of `attn_surgeon.insert` for each block of the chosen set."""
        inserts = [dict(step["insert"]) for step in self.recipe.get("operations", [])]
        return [{"with_" if key == "with" else key: value for key, value in each.items()} for each in inserts]

    @property
    def table(self) -> Table:
        """The candidates, chosen ones first, then by score."""
        ordered = sorted(self.candidates, key=lambda each: (each.round or 99, -each.scores[self.score].value))
        shown = ordered[: max(MOST_ROWS, len(self.chosen))]
        more = f", the first {len(shown)}" if len(shown) < len(ordered) else ""
        title = f"{len(self.chosen)} chosen of {len(ordered)} candidates by {self.score}{more}"
        columns = ("site", "block", "round", self._score, "± s.e.", "when chosen", "parameters", "MACs", "ms")
        return Table(title, columns, tuple(map(self._row, shown)), columns[2:]).without_empty_columns()

    @property
    def legend(self) -> str:
        """What the columns of the table are that a reader cannot know, one a line."""
        meanings = {
            "round": f"in which of {SEARCH_ROUNDS} rounds it was chosen; each round uses an equal part of the budget",
            self._score: "what candidates are ranked by, from gradients before any training; larger is better",
            "when chosen": "the score in that round, after a gradient step of the blocks of earlier rounds",
        }
        return "\n".join(f"{name}: {meanings[name]}" for name in self.table.columns if name in meanings)

    @property
    def _score(self) -> str:
        return f"score ({self.score})"

    def _row(self, item: ScoutedCandidate) -> tuple[str, ...]:
        score, cost = item.scores[self.score], item.cost
        return (
            item.candidate.place,
            item.candidate.block,
            str(item.round or ""),
            f"{score.value:.4g}",
            f"{score.error:.2g}",
            f"{item.when_chosen.value:.4g}" if item.when_chosen else "",
            f"{cost.parameters:,}",
            f"{cost.macs:,}",
            f"{1e3 * cost.seconds:.3f}",
        )

    @property
    def summary(self) -> str:
        """What the set costs, and what the scores do and do not show."""
        added = sum(each.cost.parameters for each in self.chosen)
        seconds = sum(each.cost.seconds for each in self.chosen)
        cost = (
            f"The set adds {added:,} parameters ({added / self.base.parameters:.1%}) and takes "
            f"{1e3 * seconds:.2f} ms beside the network's {1e3 * self.base.seconds:.2f} ms."
        )
        return f"{cost if self.chosen else 'No candidate was chosen.'} {self.caveat}"

    @property
    def caveat(self) -> str:
        """What the scores do and do not show."""
        return (
            f"The scores rank candidates by {self.images:,} images before any training. They do not say how much "
            "accuracy a set gains: fine-tune with a control to see."
        )

    def __repr__(self) -> str:
        return "\n\n".join([f"{self.table}\n{self.legend}", self.summary, *map(for_python, self.remarks)])

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, then what the trial shows."""
        return self.notes if self.trial is None else (*self.notes, self.trial.verdict)

    def _repr_html_(self) -> str:
        lines = [*self.legend.splitlines(), self.summary, *map(for_python, self.remarks)]
        return self.table.html() + "".join(f"<p>{escape(line)}</p>" for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {**asdict(self), "caveat": self.caveat}

    def save(self, path: str | Path) -> None:
        """Write the recipe of the chosen set as YAML, atomically."""
        import yaml

        name, count = " ".join(self.network.split()), counted(len(self.chosen), "graft")
        line = f"# {count} for {name}, chosen by {self.score} before training"
        text = yaml.safe_dump(dict(self.recipe), sort_keys=False, allow_unicode=True)
        write_atomically(Path(path), f"{line}\n{text}")
