"""Definitions of a candidate's score from the gradients of its closing parameters over batches.

g_b (P,) is the gradient of batch b of B, ḡ their mean, s (P,) the natural scale of the parameters. Each score is larger
for candidates that are expected to help more. The standard errors are the jackknife's, which leaves out one batch at a
time. The formulas and where they come from are in README.md of this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A score with its standard error over batches."""

    value: float
    error: float


def mean_estimate(values: Tensor) -> Estimate:
    """Return the mean of values (N,) over batches with its standard error, infinite for one batch.

    >>> mean_estimate(torch.tensor([1.0, 3.0]))
    Estimate(value=2.0, error=1.0)
    """
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else torch.inf
    return Estimate(float(values.mean()), error)


@dataclass(frozen=True)
class BatchGradients:
    """Gradients (B, P) of a candidate's closing parameters, one for each batch, and the parameters' scale (P,)."""

    gradients: Tensor
    scale: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """The mean gradient (P,)."""
        return self.gradients.mean(0)

    def without(self, number: int) -> BatchGradients:
        """Return the gradients of all batches but one."""
        kept = [each for each in range(len(self.gradients)) if each != number]
        return replace(self, gradients=self.gradients[kept])


def norm(given: BatchGradients) -> float:
    """Return ‖ḡ‖.

    >>> norm(BatchGradients(torch.tensor([[3.0, 5.0], [3.0, 3.0]]), torch.ones(2)))
    5.0
    """
    return float(given.mean.norm())


def l1(given: BatchGradients) -> float:
    """Return ‖ḡ‖₁: the first-order fall of the loss where each parameter moves by one, as Adam's first steps do.

    >>> l1(BatchGradients(torch.tensor([[3.0, -5.0], [3.0, -3.0]]), torch.ones(2)))
    7.0
    """
    return float(given.mean.abs().sum())


def fisher(given: BatchGradients) -> float:
    """Return ½ Σ ḡ² / F with the diagonal Fisher information F = mean of g_b², damped by its mean over parameters.

    >>> fisher(BatchGradients(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.ones(2)))
    0.333...
    """
    information = given.gradients.square().mean(0)
    damped = information + information.mean()
    return float(0.5 * (given.mean.square() / damped).nan_to_num(0.0).sum())


def signal(given: BatchGradients) -> float:
    """Return ‖ḡ‖² over the variance of ḡ, summed over parameters.

    >>> signal(BatchGradients(torch.tensor([[1.0], [3.0]]), torch.ones(1)))
    4.0
    """
    variance = given.gradients.var(0).sum() / len(given.gradients)
    return float(given.mean.square().sum() / variance) if variance else 0.0


def effective_rank(given: BatchGradients) -> float:
    """Return the effective rank of the gradients: the exponential of the entropy of their normalised singular values.

    >>> round(effective_rank(BatchGradients(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.ones(2))), 3)
    1.929
    """
    squares = torch.linalg.eigvalsh(given.gradients.double() @ given.gradients.double().T).clamp(min=0)
    values = squares.sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp()) if values.sum() else 0.0


def gain(given: BatchGradients) -> float:
    """Return the first-order fall of the loss where each parameter moves by its natural scale against its gradient.

    The direction of a batch's step is that of the mean over the other batches, so that noise alone gives 0 on average.

    >>> gain(BatchGradients(torch.tensor([[1.0, 1.0], [2.0, -1.0], [3.0, 0.5]]), torch.tensor([1.0, 0.5])))
    1.666...
    """
    count = len(given.gradients)
    others = (given.gradients.sum(0) - given.gradients) / max(1, count - 1)
    return float((given.scale * others.sign() * given.gradients).sum(1).mean())


def scaled_norm(given: BatchGradients) -> float:
    """Return ‖s · ḡ‖: the first-order fall of the loss by a step of length one, measured in natural scales.

    >>> scaled_norm(BatchGradients(torch.tensor([[3.0, 10.0], [3.0, 6.0]]), torch.tensor([1.0, 0.5])))
    5.0
    """
    return float((given.scale * given.mean).norm())


SCORES: dict[str, Callable[[BatchGradients], float]] = {
    "gain": gain,
    "norm": norm,
    "l1": l1,
    "scaled-norm": scaled_norm,
    "fisher": fisher,
    "signal": signal,
    "rank": effective_rank,
}


def estimate(score: Callable[[BatchGradients], float], given: BatchGradients) -> Estimate:
    """Return a score with its jackknife standard error over batches (Tukey, 1958).

    >>> made = estimate(lambda own: float(own.mean), BatchGradients(torch.tensor([[1.0], [3.0]]), torch.ones(1)))
    >>> made.value, made.error
    (2.0, 1.0)
    """
    count = len(given.gradients)
    left = torch.tensor([score(given.without(number)) for number in range(count)], dtype=torch.float64)
    error = ((count - 1) / count * (left - left.mean()).square().sum()).sqrt()
    return Estimate(score(given), float(error))
