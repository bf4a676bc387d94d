"""Compare two networks on the same images: difference, paired test and a one-sentence verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.errors import DataError, option
from attn_surgeon.evaluate.paired_runs import describe_runs, score_interval
from attn_surgeon.tasks.base import Score, Task
from attn_surgeon.tasks.statistics import verdict

SAME_OUTPUTS = "Both networks give the same logits to the last bit on these images: no difference can be measured."
SAME_SCORES = "Both networks score the same on each image, and have the same loss: no difference can be measured."


@dataclass(frozen=True)
class ComparedNames:
    """The names of two networks; `second` is None for the first one without its grafts."""

    first: str
    second: str | None

    @property
    def claim(self) -> tuple[str, str]:
        """The parts of the verdict before and after `higher` or `lower`."""
        if self.second is None:
            return f"{self.first} with its grafts scores", "than without them"
        return f"{self.first} scores", f"than {self.second}"

    @property
    def cost(self) -> tuple[str, str]:
        """The parts of the verdict on robustness before and after `more` or `less`."""
        if self.second is None:
            return f"corrupted images cost {self.first} with its grafts", "than without them"
        return f"corrupted images cost {self.first}", f"than {self.second}"

    @property
    def scope(self) -> str:
        """The caveat of the verdict."""
        if self.second is None:
            return "It was trained with them, so this is no control: fine-tune with a control to see what grafts add."
        return "This holds for these weights, not for other training runs."


def compare_scores(task: Task, first: Score, second: Score, names: ComparedNames) -> dict[str, Any]:
    """Return the difference with its interval, the paired test, and the sentence, as plain values."""
    test, interval = task.compare(first.outcomes, second.outcomes), score_interval([first], [second])
    images = describe_runs(1, len(first.outcomes), bootstrap=first.resampled is not None)
    if first.outputs_sha256 is not None and first.outputs_sha256 == second.outputs_sha256:
        sentence = SAME_OUTPUTS
    elif first.outputs_sha256 is None and (first.outcomes, first.loss) == (second.outcomes, second.loss):
        sentence = SAME_SCORES
    else:
        before, after = names.claim
        sentence = f"{verdict(interval, (before, f'{after} on images like these'), images)} {names.scope}"
    return {"difference": {**asdict(interval), "how": f"over {images}"}, test.name: test.values, "verdict": sentence}


def require_comparable(task: Task, networks: Sequence[LoadedNetwork]) -> None:
    """Raise DataError if networks have different classes."""
    first, *others = networks
    for second in others:
        _require_same_classes(first, second)
        outputs = task.outputs(first), task.outputs(second)
        if len(set(outputs)) > 1:
            what = f"the networks have {' and '.join(map(str, outputs))} outputs"
            raise DataError(what, option("compare"), "compare networks with a head for the same classes")


def _require_same_classes(first: LoadedNetwork, second: LoadedNetwork) -> None:
    own, other = first.provenance.class_names, second.provenance.class_names
    if own is None or other is None or tuple(own) == tuple(other):
        return
    differing = [f"{mine} and {theirs}" for mine, theirs in zip(own, other, strict=False) if mine != theirs]
    shown = f"first {differing[0]}" if differing else f"{len(own)} and {len(other)} of them"
    what = f"the networks name their classes differently: {shown}"
    raise DataError(what, option("compare"), "compare networks that were trained on the same classes")
