"""Places where a graft cannot do its work: it would not run, or one block cannot serve all calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import PlanError
from attn_surgeon.operations.block_fitting import block_request
from attn_surgeon.operations.insert import insert, plan_insertion
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.planner import make_plan
from attn_surgeon.surgery.sites.selection import Selection
from attn_surgeon.surgery.sites.survey import survey

from .helpers import image

ECA = BlockSpec("eca")


class Fused(nn.Module):
    """torch's own transformer layer, whose eval mode is one kernel that calls none of its children."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 2, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.layer(self.stem(x).flatten(2).transpose(1, 2))
        return tokens.mean(1)


class Widths(nn.Module):
    """One activation after layers of unlike width, and one called twice on the same width."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 1)
        self.act = nn.Sequential(nn.ReLU())
        self.twice = nn.Sequential(nn.Hardswish())

    def forward(self, x: Tensor) -> Tensor:
        wide: Tensor = self.twice(self.act(self.b(self.act(self.a(x)))))
        again: Tensor = self.twice(self.c(wide))
        return again + wide


def test_a_graft_that_a_fused_kernel_would_pass_by_is_refused() -> None:
    net = Fused().eval()
    with pytest.raises(PlanError, match="a fused kernel replaces"):
        insert(net, "eca", after="layer.linear1", example=image())
    operated = insert(net, "eca", after="layer", example=image())
    with torch.no_grad():
        for parameter in list_grafts(operated)[0].block.parameters():
            parameter.fill_(1.0)
        assert not torch.equal(operated(image()), net(image()))


def test_a_module_whose_calls_differ_in_channels_is_reported() -> None:
    with pytest.raises(PlanError, match="its calls differ in channels: 8, 16"):
        plan_insertion(Widths(), ECA, Selection(after=("act",)), image())


def test_the_plan_has_the_number_of_runs_of_a_graft() -> None:
    (graft,) = plan_insertion(Widths(), ECA, Selection(after=("twice",)), image()).grafts
    assert (graft.site, graft.calls, graft.feature.channels) == ("twice", 2, 16)


def test_refusals_come_with_the_grafts_that_fit() -> None:
    planned = make_plan(survey(Widths(), image()), Selection(after=("act", "b")), block_request(ECA))
    assert [graft.site for graft in planned.grafts] == ["b"]
    assert [(item.site, item.reason) for item in planned.refusals] == [("act", "its calls differ in channels: 8, 16")]
