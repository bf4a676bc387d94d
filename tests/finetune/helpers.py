"""What the tests of training share: a small task, and the demo with grafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.splits import Splits, open_labelled_splits
from attn_surgeon.data.subsets import ImageSubset, balanced, labels_of
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_PREPROCESSING, load_demo

EXAMPLE = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def operated(block: str = "cbam", at: str = "layer3.*.bn2") -> nn.Module:
    """Insert blocks into the demo."""
    model = insert(load_demo(), block, after=at, example=EXAMPLE)
    set_provenance(model, Provenance(SourceSpec("demo", "demo"), DEMO_PREPROCESSING, CLASS_NAMES))
    return model


def loaded(block: str = "cbam") -> LoadedNetwork:
    """Wrap the demo with grafts as what a fine-tune starts from."""
    model = operated(block)
    return LoadedNetwork(set_provenance(model, Provenance(SourceSpec("demo", "demo"), DEMO_PREPROCESSING, CLASS_NAMES)))


def parts(settings: FinetuneSettings, val: int = 60) -> Splits:
    """Open the clean digits, a few of them to measure on."""
    found = open_labelled_splits("demo", DEMO_PREPROCESSING, settings)
    few = ImageSubset(found.val.dataset, balanced(labels_of(found.val.dataset), val), keep=True)
    return replace(found, val=ImageData(few, CLASS_NAMES))


def same(first: nn.Module, second: nn.Module) -> bool:
    """Say whether two networks hold the same bits."""
    return equal(list(first.state_dict().values()), list(second.state_dict().values()))


def equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))
