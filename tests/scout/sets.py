"""Train the arms of a transfer with several seeds as lines of a file; a line that is there is not computed again."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.data.sampling import EpochImages
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import for_python
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.measure.cost import parameters
from attn_surgeon.scouting.batches import FEWEST, draw_batches, with_measured
from attn_surgeon.scouting.candidates import of_graft
from attn_surgeon.scouting.result import Scouting
from attn_surgeon.scouting.scout import scout_network
from attn_surgeon.scouting.settings import ScoutSettings
from attn_surgeon.scouting.trial import run_trial
from attn_surgeon.surgery.installed_grafts import list_grafts

from .arms import Arms, Candidates, norm_parameters
from .lines import Line, Lines
from .ranks import text
from .training import train_network
from .transfers import Transfer


@dataclass(frozen=True)
class Sets:
    """The arms of a transfer.

    Args:
        transfer: the transfer.
        settings: how arms are trained.
        lines: what is known already.
        prefix: what the keys of the lines begin with.
    """

    transfer: Transfer
    settings: FinetuneSettings
    lines: Lines
    prefix: str = ""

    @cached_property
    def _prepared(self) -> tuple[LoadedNetwork, Splits]:
        return self.transfer.prepared(self.settings, self.lines.file.with_suffix(f".{self.prefix}start.safetensors"))

    @cached_property
    def arms(self) -> Arms:
        """The arms."""
        return Arms(self._prepared[0], self._scouted)

    def _scouted(self, candidates: Candidates, budget: int) -> Line:
        key = f"{self.prefix}scouted {','.join(candidates.blocks)} at {','.join(candidates.at)}"
        self.lines.add(key, lambda: _line(self._scout(candidates, budget)))
        return self.lines.known[key]

    def _scout(self, candidates: Candidates, budget: int) -> Scouting:
        return scout_network(
            self._prepared[0],
            name="start",
            data=str(self.transfer.data()),
            task=self.settings.task,
            blocks=candidates.blocks,
            at=candidates.at,
            budget=float(budget),
            settings=replace(self._scouting, trial_steps=0),
        )

    @property
    def _scouting(self) -> ScoutSettings:
        """How scout scores, on at most a tenth of the images of a training."""
        usual, images = ScoutSettings(), len(EpochImages(self._prepared[1], 0))
        size = min(usual.batch_size, self.settings.batch_size, max(1, images // (2 * FEWEST)))
        tenth = self.settings.epochs * images // (10 * size)
        return replace(usual, batches=min(usual.batches, max(FEWEST, tenth)), batch_size=size, fit_head=False)

    def try_out(self, candidates: Candidates) -> None:
        """Make scout's trial of the set that it chooses, unless its line is there."""
        self.lines.add(f"{self.prefix}trial", lambda: self._trial(candidates))

    def _trial(self, candidates: Candidates) -> Line:
        (start, splits), usual = self._prepared, self._scouting
        draws = draw_batches(splits, usual.batches, usual.batch_size, usual.head_images, usual.seed)
        draws = with_measured(draws, splits, usual.batch_size, usual.seed)
        made = self.arms.scouted(usual.seed, candidates).model
        chosen = [(BlockSpec.read(graft.graft.block["name"], {}), of_graft(graft)) for graft in list_grafts(made)]
        found = run_trial(start, chosen, self.transfer.task, draws, usual.trial_steps, usual.seed)
        return {"losses": dict(found.losses), "verdict": for_python(found.verdict)}

    def run(self, name: str, seed: int) -> None:
        """Train an arm with a seed, unless its line is there."""
        self.lines.add(f"{self.prefix}{name} {seed}", lambda: self._result(name, seed))

    def _result(self, name: str, seed: int) -> dict[str, Any]:
        start, splits = self._prepared
        arm, settings = self.arms.make(name, seed), replace(self.settings, seed=seed)
        added = parameters(arm.model) - parameters(start.model) + arm.norms * norm_parameters(start.model)
        since = time.process_time()
        train_network(arm.model, start.example, splits, replace(settings, train_norms=arm.norms), arm.also)
        spent, found = time.process_time() - since, self.transfer.task.score(arm.model, splits.val)
        return {
            "metric": found.metric,
            "loss": found.loss,
            "outcomes": [round(own, 6) for own in found.by_image],
            "parameters": added,
            "budget": self.arms.budget,
            "training": spent,
            "chosen": arm.chosen,
        }


def _line(found: Scouting) -> Line:
    """Return what is kept of a scouting."""
    return {
        "operations": found.operations,
        "candidates": [[text(each.candidate), each.cost.parameters] for each in found.candidates],
        "chosen": len(found.chosen),
    }
