"""How far a graft has opened."""

from __future__ import annotations

import torch

from attn_surgeon.finetune.graft_effects import openings
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.tasks import get_task

from .helpers import operated, parts

TASK = get_task("classification")


def test_a_fresh_graft_is_closed_and_a_gate_of_a_half_changes_half() -> None:
    model, data = operated("se"), parts(FinetuneSettings(limit=20))
    first, *rest = list_grafts(model)
    assert set(openings(model, TASK, data.val).values()) == {0.0}
    with torch.no_grad():
        last = [layer for layer in first.block.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        assert last.bias is not None
        last.bias.fill_(-1.0986123)  # 2σ of it is one half
    found = openings(model, TASK, data.val)
    assert abs(found[first.path] - 0.5) < 1e-6
    assert {found[made.path] for made in rest} <= {0.0}
