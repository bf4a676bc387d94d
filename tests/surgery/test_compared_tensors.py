"""Networks that give nothing back, as a detector that finds nothing does, are compared by what their modules gave."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.errors import PlanError
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.certificate import certify
from attn_surgeon.surgery.compared_tensors import gather
from attn_surgeon.surgery.running import same_bits

from .helpers import image, open_up


class FindsNothing(nn.Module):
    """Give back the positions that are above a bound which none is above."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(x).relu())
        return scores[scores > 1e9]


class Loud(nn.Module):
    """A block that is no identity, and says it were one."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_an_empty_output_hides_nothing() -> None:
    net, x = FindsNothing().eval(), image()
    assert net(x).numel() == 0
    model = insert(net, "se", after="first", example=x, options={"reduction": 2})
    (check,) = [item for item in certify(net, model, x).checks if item.name.startswith("identity in eval, 2×4×8×8")]
    assert (check.status, check.detail) == ("passed", "the output is empty; 3 outputs of modules bit for bit")
    (check,) = [item for item in certify(net, open_up(model), x).checks if item.name == check.name]
    assert check.status == "failed"


def test_surgery_is_checked_by_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "attn_surgeon.operations.insert.build_blocks", lambda model, grafts, seed: [Loud() for _ in grafts]
    )
    with pytest.raises(PlanError, match="the network's output would change"):
        insert(FindsNothing(), "se", after="first", example=image(), options={"reduction": 2})


def test_digests_differ_for_other_values_and_shapes() -> None:
    net, x = FindsNothing().eval(), image()
    with torch.no_grad():
        one = gather(net, x).values
        assert same_bits(one, gather(net, x).values)
        net.last.bias.add_(1)  # type: ignore[union-attr]
        assert not same_bits(one, gather(net, x).values)
