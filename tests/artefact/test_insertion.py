"""The main job: grafts that could never matter are refused, and certificates are made of what is written."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.insertion import Insertion, perform_insertions
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import PlanError
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.sites.selection import Selection


class HalfRead(nn.Module):
    """Two branches run, and the head reads one."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Conv2d(3, 8, 3, padding=1)
        self.unread = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.unread(x)
        out: Tensor = self.fc(self.read(x).relu().mean((2, 3)))
        return out


def loaded() -> LoadedNetwork:
    preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3, (32, 32))
    return LoadedNetwork(set_provenance(HalfRead().eval(), Provenance(SourceSpec("object", "HalfRead"), preprocessing)))


def insertion(*sites: str) -> Insertion:
    spec = BlockSpec.read("se", {"reduction": 2})
    return Insertion(spec, Selection(after=tuple(sites)))


def test_a_graft_on_what_nothing_reads_is_taken_out_and_refused() -> None:
    case = loaded()
    result = perform_insertions(case, [insertion("read", "unread")])
    assert [made.graft.site for made in list_grafts(result.model)] == ["read"]
    assert [(r.site, r.reason) for r in result.plan.refusals] == [
        ("unread", "the output does not depend on the tensor there")
    ]
    assert result.certificate is not None
    assert result.certificate.passed


def test_strict_makes_it_an_error() -> None:
    with pytest.raises(PlanError, match="does not depend"):
        perform_insertions(loaded(), [insertion("read", "unread")], strict=True)


def test_the_certificate_fails_where_all_grafts_are_ignored() -> None:
    result = perform_insertions(loaded(), [insertion("unread")])
    assert result.certificate is not None
    failed = [check for check in result.certificate.checks if check.status == "failed"]
    assert [check.name for check in failed] == ["grafts can learn"]
    assert "after unread" in failed[0].detail


def test_the_network_is_not_changed_and_two_insertions_are_both_made() -> None:
    case = loaded()
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    result = perform_insertions(case, [insertion("read"), insertion("read")])
    assert len(list_grafts(result.model)) == 2
    assert type(case.model) is HalfRead
    assert case.model.state_dict().keys() == before.keys()
    with torch.no_grad():
        assert torch.equal(result.model(case.example), case.model(case.example))
