"""Train one network of a comparison, and check afterwards that its grafts are still there, have changed and run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.control.metrics import Values, metric_values
from attn_surgeon.errors import LostGraftError, TrainingError, first_few, function
from attn_surgeon.surgery.edit import take_out
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts, ran, require_grafts
from attn_surgeon.surgery.isolation import copied, seeded

Train = Callable[[nn.Module, int, Path], nn.Module | None]
Evaluate = Callable[[nn.Module], Any]


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


ARMS = ("grafts", "control")


@dataclass(frozen=True)
class ArmResult:
    """The result of one training run.

    Args:
        arm: `grafts` or `control`.
        seed: the seed.
        metrics: the values of each metric: one number, or one for each validation image.
        bypass_costs: by graft, how much of each metric is lost if only that graft is bypassed.
        unchanged: the grafts whose parameters the training has not changed.
    """

    arm: str
    seed: int
    metrics: Mapping[str, tuple[float, ...]]
    bypass_costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()


def run_arm(start: nn.Module, arm: str, seed: int, folder: Path, loop: Loop, *, bypass: bool) -> ArmResult:
    """Train a network, which is changed, evaluate it, and check its grafts.

    Raises:
        LostGraftError: a graft is not in the trained network, or does not run when it is evaluated.
        TrainingError: no graft has changed, or the returned values are no networks or numbers.
    """
    before = _graft_states(start)
    with seeded(seed):
        returned: Any = loop.train(start, seed, folder)
        trained = start if returned is None else returned
        if not isinstance(trained, nn.Module):
            what = f"train returned {type(trained).__name__}, no network"
            raise TrainingError(what, "train", "return the trained network, or None where it is trained in place")
        unchanged = _unchanged(trained, before)
        with ran(trained) as not_run:
            metrics = metric_values(loop.evaluate(trained))
        if not_run and loop.in_process:
            raise LostGraftError(
                f"the grafts {first_few(sorted(not_run))} do not run when the trained network is evaluated",
                f"{arm}, seed {seed}",
                "evaluate the network that is passed, not one that is built or converted without grafts",
            )
        return ArmResult(arm, seed, metrics, _bypass_costs(trained, metrics, loop) if bypass else {}, unchanged)


def _graft_states(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return copies of the grafts' tensors, by the place of each."""
    return {
        item.place: {name: value.detach().cpu().clone() for name, value in item.block.state_dict().items()}
        for item in list_grafts(model)
    }


def _unchanged(trained: nn.Module, before: Mapping[str, Mapping[str, Tensor]]) -> tuple[str, ...]:
    """Return the places of unchanged grafts; raise if grafts were lost, or if none has changed."""
    require_grafts(trained)
    after = _graft_states(trained)
    lost = [place for place in before if place not in after]
    if lost:
        raise LostGraftError(
            f"the trained network has no graft {first_few(lost)}: the trainer trained another network",
            "train",
            "train the network that is passed, and return it where it was copied or wrapped",
        )
    unchanged = tuple(place for place, state in before.items() if state and _is_same(state, after[place]))
    if unchanged and len(unchanged) == len(before):
        raise TrainingError(
            "training has changed no graft",
            first_few(list(unchanged)),
            f"give the optimizer their parameters: {function('graft_parameters(network)', 'finetune')}",
        )
    return unchanged


def _is_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def _bypass_costs(model: nn.Module, metrics: Values, loop: Loop) -> dict[str, dict[str, float]]:
    costs = {}
    for item in list_grafts(model):
        if loop.in_process:
            with bypassed([item.block]):
                without = metric_values(loop.evaluate(model))
        else:
            less = copied(model)
            take_out(less, item.graft.__eq__)
            without = metric_values(loop.evaluate(less))
        costs[item.place] = {name: fmean(values) - fmean(without[name]) for name, values in metrics.items()}
    return costs
