"""Modules that take several tensors: before them is the first one, and a note or an error names the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import SelectorError
from attn_surgeon.operations.insert import insert, plan_insertion
from attn_surgeon.surgery.sites.selection import Selection

NOTE = "join takes x, skip, and before it is x; skip is after a"


class Join(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.conv(torch.cat([x, skip], 1))
        return joined


class Net(nn.Module):
    def __init__(self, by_name: bool) -> None:
        super().__init__()
        self.a, self.b, self.join = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), Join()
        self.by_name = by_name

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        joined: Tensor = self.join(self.b(a), skip=a) if self.by_name else self.join(self.b(a), a)
        return joined


@pytest.mark.parametrize("by_name", [True, False])
def test_a_plan_notes_the_other_inputs(by_name: bool) -> None:
    net, example = Net(by_name).eval(), torch.randn(1, 3, 8, 8)
    assert plan_insertion(net, BlockSpec("se"), Selection(before=("join",)), example).notes == (NOTE,)
    assert plan_insertion(net, BlockSpec("se"), Selection(before=("join.conv",)), example).notes == ()
    assert plan_insertion(net, BlockSpec("se"), Selection(after=("join",)), example).notes == ()


@pytest.mark.parametrize("selector", ["join:1", "join:skip"])
def test_an_input_that_is_no_site_is_named_with_its_place(selector: str) -> None:
    with pytest.raises(SelectorError) as caught:
        insert(Net(True).eval(), "se", before=selector, example=torch.randn(1, 3, 8, 8))
    assert caught.value.hint == NOTE
    with pytest.raises(SelectorError, match=r"did you mean join\.conv"):
        insert(Net(True).eval(), "se", before="join.con", example=torch.randn(1, 3, 8, 8))


def test_inputs_without_a_module_behind_them() -> None:
    class Straight(Net):
        def forward(self, x: Tensor) -> Tensor:
            joined: Tensor = self.join(self.b(self.a(x)), x.repeat(1, 3, 1, 1)[:, :8])
            return joined

    notes = plan_insertion(
        Straight(True).eval(), BlockSpec("se"), Selection(before=("join",)), torch.randn(1, 3, 8, 8)
    ).notes
    assert notes == ("join takes x, skip, and before it is x; skip is inside join or after a function",)
