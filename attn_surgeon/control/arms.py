"""Train one network of a comparison in the caller's loop, evaluate it, and bypass each of its grafts."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from attn_surgeon.control.metrics import Values, metric_values
from attn_surgeon.control.trained_grafts import NamedGraft, all_run, named_grafts, require_trained
from attn_surgeon.errors import TrainingError
from attn_surgeon.progress import StepProgress
from attn_surgeon.surgery.edit import take_out
from attn_surgeon.surgery.installed_grafts import bypassed
from attn_surgeon.surgery.isolation import copied, seeded

Train = Callable[[nn.Module, int, Path], nn.Module | None]
Evaluate = Callable[[nn.Module], Any]
ARMS = ("grafts", "control")
_EVALUATION_SEED = 0


@dataclass(frozen=True)
class Loop:
    """The caller's training loop.

    Args:
        train: as for `compare`.
        evaluate: as for `compare`.
        text: identifies the two, so that an interrupted comparison is not continued with others.
        in_process: whether `evaluate` runs the network itself, and not a file of it in another process.
    """

    train: Train
    evaluate: Evaluate
    text: str
    in_process: bool = True

    def metrics(self, network: nn.Module) -> Values:
        """Return the metrics of a network in eval mode; whatever `evaluate` draws at random is the same each time."""
        return metric_values(self._evaluated(network))

    def metrics_or_nan(self, network: nn.Module) -> Values:
        """Return the metrics of a network that may have none which is finite, such as one with a graft bypassed."""
        return metric_values(self._evaluated(network), finite=False)

    def _evaluated(self, network: nn.Module) -> Any:
        if self.in_process:
            network.eval()
        with seeded(_EVALUATION_SEED), _eager():
            return self.evaluate(network)


@contextmanager
def _eager() -> Iterator[None]:
    """Run compiled networks eagerly until the context ends: each bypassed graft would compile them again."""
    with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
        yield


def code_text(*functions: Callable[..., Any]) -> str:
    """Return a hash of functions' names and code; of other callables only the name of their class counts."""
    parts = []
    for called in functions:
        code = getattr(called, "__code__", None)
        parts.append(getattr(called, "__qualname__", type(called).__name__))
        if code is not None:
            names = [constant for constant in code.co_consts if isinstance(constant, (str, int, float))]
            parts.append(code.co_code.hex() + repr((code.co_names, names)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class ArmResult:
    """The result of one training run.

    Args:
        arm: `grafts` or `control`.
        seed: the seed.
        metrics: the values of each metric: one number, or one for each validation image.
        bypass_costs: by graft, by how much each metric is smaller if only that graft is bypassed.
        unchanged: the grafts whose parameters the training has not changed.
    """

    arm: str
    seed: int
    metrics: Mapping[str, tuple[float, ...]]
    bypass_costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()


def run_arm(
    start: nn.Module, arm: str, seed: int, folder: Path, loop: Loop, progress: StepProgress, *, bypass: bool
) -> Iterator[ArmResult]:
    """Train a network, which is changed, evaluate it, and check its grafts; then bypass each of them.

    Yields:
        The result without the costs of bypassing; then, with `bypass`, again after each graft that was bypassed.

    Raises:
        LostGraftError: a graft is not in the trained network, or does not run when it is evaluated.
        TrainingError: no graft has changed, or what was returned is not a network or not a number.
    """
    grafts = named_grafts(start)
    if loop.in_process:
        start.train()
    with seeded(seed):
        returned: Any = loop.train(start, seed, folder)
    trained = start if returned is None else returned
    if not isinstance(trained, nn.Module):
        what = f"train returned {type(trained).__name__}, not a network"
        raise TrainingError(what, "train", "return the trained network, or None where it is trained in place")
    unchanged = require_trained(trained, grafts)
    with all_run(trained, grafts, f"{arm}, seed {seed}") if loop.in_process else nullcontext():
        metrics = loop.metrics(trained)
    costs: dict[str, dict[str, float]] = {}
    yield ArmResult(arm, seed, metrics, costs, unchanged)
    for number, item in enumerate(grafts if bypass else (), 1):
        progress(f"evaluate {arm}, seed {seed}, without graft {number} of {len(grafts)}")
        without = _bypassed_metrics(trained, item, loop)
        costs[item.name] = {
            name: fmean(values) - fmean(without[name])
            for name, values in metrics.items()
            if all(map(math.isfinite, without.get(name, (math.nan,))))
        }
        yield ArmResult(arm, seed, metrics, costs, unchanged)


def _bypassed_metrics(trained: nn.Module, item: NamedGraft, loop: Loop) -> Values:
    """Return the metrics of a trained network with one graft bypassed; for other processes it is taken out."""
    if loop.in_process:
        with bypassed(copy.block for copy in item.copies_in(trained)):
            return loop.metrics_or_nan(trained)
    less = copied(trained)
    chosen = [copy.graft for copy in item.copies_in(less)]
    take_out(less, lambda graft: any(graft is one for one in chosen))
    return loop.metrics_or_nan(less)
