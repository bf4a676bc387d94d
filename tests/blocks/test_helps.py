"""Ten steps with a block beat the best that is possible without one, where attention is needed.

The features are fixed and a linear classifier reads their means, so without a graft the loss has one minimum, which the
control is given. A graft starts from there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.turns import in_turns

from .helpers import NAMES, block

COUNT, CHANNELS, SIDE, STEPS = 192, 8, 6, 10


def by_channel() -> tuple[Tensor, Tensor]:
    """Tell the class by channel 1 where channel 0 is strong, else by channel 2."""
    x = 0.1 * torch.randn(COUNT, CHANNELS, SIDE, SIDE)
    strong, signs = torch.randint(2, (COUNT,)).bool(), 2.0 * torch.randint(2, (COUNT, 2)) - 1
    x[:, 0] += 2.0 * strong[:, None, None]
    x[:, 1:3] += signs[:, :, None, None]
    return x, (torch.where(strong, signs[:, 0], signs[:, 1]) > 0).float()


def by_position() -> tuple[Tensor, Tensor]:
    """Tell the class by the sign of channel 1 at the one position where channel 0 is strong."""
    x = 0.1 * torch.randn(COUNT, CHANNELS, SIDE, SIDE)
    signs = 2.0 * torch.randint(2, (COUNT, SIDE, SIDE)) - 1
    rows, columns, each = torch.randint(SIDE, (COUNT,)), torch.randint(SIDE, (COUNT,)), torch.arange(COUNT)
    x[each, 0, rows, columns] += 4.0
    x[:, 1] += signs
    return x, (signs[each, rows, columns] > 0).float()


def by_strength() -> tuple[Tensor, Tensor]:
    """Tell the class by how strong channel 0 is, whatever its sign."""
    x = 0.1 * torch.randn(COUNT, CHANNELS, SIDE, SIDE)
    strong, signs = torch.randint(2, (COUNT,)), 2.0 * torch.randint(2, (COUNT,)) - 1
    x[:, 0] += ((0.5 + 1.5 * strong) * signs)[:, None, None]
    return x, strong.float()


def by_spot() -> tuple[Tensor, Tensor]:
    """Tell the class by the sign of channel 0 at the one position where it is strong."""
    x = 0.1 * torch.randn(COUNT, CHANNELS, SIDE, SIDE)
    x[:, 0] = 2.0 * torch.randint(2, (COUNT, SIDE, SIDE)) - 1
    rows, columns, each = torch.randint(SIDE, (COUNT,)), torch.randint(SIDE, (COUNT,)), torch.arange(COUNT)
    x[each, 0, rows, columns] *= 4.0
    return x, (x[each, 0, rows, columns] > 0).float()


Task = Callable[[], tuple[Tensor, Tensor]]
CANNOT = {
    "outlook"
}  # every window counts as much as any other: it says where a feature goes, and not how much it counts
TASKS = (by_channel, by_position, by_strength, by_spot)


def loss(features: nn.Module, head: nn.Linear, x: Tensor, label: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(head(features(x).mean((2, 3)))[:, 0], label)


@dataclass(frozen=True)
class Control:
    """A task's features and labels, the head that is the best without a graft, and the random state after all that."""

    x: Tensor
    label: Tensor
    head: nn.Linear
    lowest: float
    state: Tensor


@cache
def control_of(task: Task, seed: int) -> Control:
    torch.manual_seed(seed)
    x, label = task()
    head, lowest = best_without(x, label)
    return Control(x, label, head, lowest, torch.get_rng_state())


def best_without(x: Tensor, label: Tensor) -> tuple[nn.Linear, float]:
    """Fit the head alone, to the minimum of its convex loss."""
    head = nn.Linear(CHANNELS, 1)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = loss(nn.Identity(), head, x, label) + 1e-6 * head.weight.square().sum()
        torch.autograd.backward(found)
        return found

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return head, loss(nn.Identity(), head, x, label).item()


def gain(make: Callable[[], nn.Module], task: Task, rate: float) -> float:
    """Return by how much the loss falls below the control's within ten steps, as the mean of three seeds."""
    gains = []
    for seed in range(3):
        control = control_of(task, seed)
        torch.set_rng_state(control.state)
        head = copy.deepcopy(control.head)
        gains.append(control.lowest - lowest_loss(make().train(), head, control.x, control.label, rate))
    return sum(gains) / len(gains)


def lowest_loss(graft: nn.Module, head: nn.Linear, x: Tensor, label: Tensor, rate: float) -> float:
    optimizer = torch.optim.Adam([*graft.parameters(), *head.parameters()], rate)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        found = loss(graft, head, x, label)
        losses.append(found.item())
        torch.autograd.backward(found)
        optimizer.step()
    return min(*losses, loss(graft, head, x, label).item())


RATES = (0.05, 0.2, 0.01, 0.1)


@pytest.mark.parametrize("name", in_turns([name for name in NAMES if name not in CANNOT], 6))
def test_ten_steps_beat_the_best_without(name: str) -> None:
    assert any(gain(lambda: block(name, CHANNELS), task, rate) > 0.002 for rate in RATES for task in TASKS)


def scale() -> nn.Module:
    graft = nn.Conv2d(CHANNELS, CHANNELS, 1, groups=CHANNELS, bias=False)
    nn.init.ones_(graft.weight)
    return graft


@pytest.mark.parametrize("make", [nn.Identity, scale])
def test_no_graft_and_a_plain_scale_do_not_help(make: Callable[[], nn.Module]) -> None:
    assert all(gain(make, task, rate) < 0.0002 for rate in RATES for task in TASKS)
