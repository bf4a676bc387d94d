"""A network is prepared for export without being changed."""

from __future__ import annotations

import torch
from torch import nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.export.prepared import prepare
from attn_surgeon.export.settings import ExportSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing

SMALL = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.2, 0.3), (8, 8))


def network(model: nn.Module) -> LoadedNetwork:
    return LoadedNetwork(set_provenance(model, Provenance(SourceSpec("object", "own"), SMALL)))


def test_a_network_in_half_precision_and_training_stays_so() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).half().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepared = prepare(network(model), ExportSettings())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model[0].weight.dtype == torch.float16
    assert {tensor.dtype for tensor in prepared.module.parameters()} == {torch.float32}
    assert not any(module.training for module in prepared.module.modules())


def test_a_network_that_is_ready_is_not_copied() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    assert prepare(network(model), ExportSettings()).module is model
