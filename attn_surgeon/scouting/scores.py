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


@dataclass(frozen=True)
class Evidence:
    """Gradients (B, P) of a candidate's closing parameters, one for each batch, and the parameters' scale (P,)."""

    gradients: Tensor
    scale: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """The mean gradient (P,)."""
        return self.gradients.mean(0)

    def without(self, number: int) -> Evidence:
        """Return the evidence without one batch."""
        kept = [each for each in range(len(self.gradients)) if each != number]
        return replace(self, gradients=self.gradients[kept])


def norm(evidence: Evidence) -> float:
    """Return ‖ḡ‖.

    >>> norm(Evidence(torch.tensor([[3.0, 5.0], [3.0, 3.0]]), torch.ones(2)))
    5.0
    """
    return float(evidence.mean.norm())


def fisher(evidence: Evidence) -> float:
    """Return ½ Σ ḡ² / F with the diagonal Fisher information F = mean of g_b², damped by its mean over parameters.

    >>> fisher(Evidence(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.ones(2)))
    0.333...
    """
    information = evidence.gradients.square().mean(0)
    damped = information + information.mean()
    return float(0.5 * (evidence.mean.square() / damped).nan_to_num(0.0).sum())


def signal(evidence: Evidence) -> float:
    """Return ‖ḡ‖² over the variance of ḡ, summed over parameters.

    >>> signal(Evidence(torch.tensor([[1.0], [3.0]]), torch.ones(1)))
    4.0
    """
    variance = evidence.gradients.var(0).sum() / len(evidence.gradients)
    return float(evidence.mean.square().sum() / variance) if variance else 0.0


def rank(evidence: Evidence) -> float:
    """Return the effective rank of the gradients: the exponential of the entropy of their normalised singular values.

    >>> round(rank(Evidence(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.ones(2))), 3)
    1.929
    """
    squares = torch.linalg.eigvalsh(evidence.gradients.double() @ evidence.gradients.double().T).clamp(min=0)
    values = squares.sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp()) if values.sum() else 0.0


def gain(evidence: Evidence) -> float:
    """Return the first-order fall of the loss where each parameter moves by its natural scale against its gradient.

    The direction of a batch's step is that of the mean over the other batches, so that noise alone gives 0 on average.

    >>> gain(Evidence(torch.tensor([[1.0, 1.0], [2.0, -1.0], [3.0, 0.5]]), torch.tensor([1.0, 0.5])))
    1.666...
    """
    count = len(evidence.gradients)
    others = (evidence.gradients.sum(0) - evidence.gradients) / max(1, count - 1)
    return float((evidence.scale * others.sign() * evidence.gradients).sum(1).mean())


SCORES: dict[str, Callable[[Evidence], float]] = {
    "gain": gain,
    "norm": norm,
    "fisher": fisher,
    "signal": signal,
    "rank": rank,
}


def estimate(score: Callable[[Evidence], float], evidence: Evidence) -> Estimate:
    """Return a score with its jackknife standard error over batches (Tukey, 1958).

    >>> made = estimate(lambda given: float(given.mean), Evidence(torch.tensor([[1.0], [3.0]]), torch.ones(1)))
    >>> made.value, made.error
    (2.0, 1.0)
    """
    count = len(evidence.gradients)
    left = torch.tensor([score(evidence.without(number)) for number in range(count)], dtype=torch.float64)
    error = ((count - 1) / count * (left - left.mean()).square().sum()).sqrt()
    return Estimate(score(evidence), float(error))
