"""The demo with CBAM in two residual branches: as it starts, and with gates opened by hand."""

from __future__ import annotations

import pytest
import torch

from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts

RESIDUAL = ["layer1.0.bn2", "layer3.1.bn2"]


@pytest.fixture(scope="session")
def demo() -> LoadedNetwork:
    return open_network("demo")


def operated(demo: LoadedNetwork, block: str, *, opened: bool) -> LoadedNetwork:
    model = insert(demo.model, block, example=demo.example, after=RESIDUAL).eval()
    set_provenance(model, provenance_of(demo.model))
    torch.manual_seed(1)
    for made in list_grafts(model) if opened else ():
        for parameter in made.block.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return LoadedNetwork(set_provenance(model, demo.provenance))


@pytest.fixture(scope="session")
def untrained(demo: LoadedNetwork) -> LoadedNetwork:
    return operated(demo, "cbam", opened=False)


@pytest.fixture(scope="session")
def trained(demo: LoadedNetwork) -> LoadedNetwork:
    return operated(demo, "cbam", opened=True)
