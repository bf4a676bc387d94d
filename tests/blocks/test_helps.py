"""Ten steps with a block beat the best that is possible without one, where attention is needed.

The features are fixed and a linear classifier reads their means, so without a graft the loss has one minimum, which the
control is given. A graft starts from there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks import get_card

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


Task = Callable[[], tuple[Tensor, Tensor]]
TASKS: dict[str, tuple[Task, ...]] = {
    "channel": (by_channel,),
    "spatial": (by_position,),
    "both": (by_channel, by_position),
    "self-attention": (by_position,),
    "two inputs": (by_channel, by_position),
}
CANNOT: dict[str, str] = {}


def loss(features: nn.Module, head: nn.Linear, x: Tensor, label: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(head(features(x).mean((2, 3)))[:, 0], label)


def best_without(x: Tensor, label: Tensor) -> tuple[nn.Linear, float]:
    """Fit the head alone, to the minimum of its convex loss."""
    head = nn.Linear(CHANNELS, 1)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = loss(nn.Identity(), head, x, label) + 1e-5 * head.weight.square().sum()
        torch.autograd.backward(found)
        return found

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return head, loss(nn.Identity(), head, x, label).item()


def after_ten_steps(graft: nn.Module, task: Task) -> tuple[float, float]:
    x, label = task()
    head, control = best_without(x, label)
    graft.train()
    optimizer = torch.optim.Adam([*graft.parameters(), *head.parameters()], 0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(loss(graft, head, x, label))
        optimizer.step()
    return loss(graft, head, x, label).item(), control


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CANNOT])
def test_ten_steps_beat_the_best_without(name: str) -> None:
    torch.manual_seed(0)
    results = [after_ten_steps(block(name, CHANNELS), task) for task in TASKS[get_card(name).kind]]
    assert any(reached < control - 0.01 for reached, control in results), results


def test_no_graft_and_a_plain_scale_do_not_help() -> None:
    torch.manual_seed(0)
    for graft in (nn.Identity(), nn.Conv2d(CHANNELS, CHANNELS, 1, groups=CHANNELS, bias=False)):
        if isinstance(graft, nn.Conv2d):
            nn.init.ones_(graft.weight)
        for task in (by_channel, by_position):
            reached, control = after_ten_steps(graft, task)
            assert reached > control - 0.005
