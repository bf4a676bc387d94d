"""Several seeds vary what nothing has trained yet: a new head, and grafts that are the identity."""

from __future__ import annotations

import torch

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.finetune.control_run import network_of
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.finetune.starts import describe_seeds, with_seed
from attn_surgeon.operations.block_fitting import identity_grafts
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.tasks import get_task

from .helpers import EXAMPLE, equal, loaded, same

THREE = ("a", "b", "c")


def new_head(seed: int = 0) -> LoadedNetwork:
    return get_task("classification").fit_head(loaded(), THREE, FinetuneSettings(seed=seed))


def test_a_seed_draws_the_new_head_and_the_grafts() -> None:
    start = new_head()
    before = {name: tensor.clone() for name, tensor in start.model.state_dict().items()}
    other, again = with_seed(start, 7), with_seed(start, 7)
    assert equal(list(start.model.state_dict().values()), list(before.values()))
    assert same(other.model, again.model)
    changed = {name for name, tensor in other.model.state_dict().items() if not torch.equal(tensor, before[name])}
    paths = [item.path for item in list_grafts(start.model)]
    assert "fc.weight" in changed
    assert all(any(name.startswith(path) for name in changed) for path in paths)
    assert {name for name in changed if not name.startswith((*paths, "fc."))} == set()
    assert same(network_of(other, grafts=False), network_of(new_head(7), grafts=False))
    with torch.no_grad():
        assert torch.equal(other.model.eval()(EXAMPLE), other.base().eval()(EXAMPLE))


def test_an_old_head_and_trained_grafts_keep_their_weights() -> None:
    start = loaded()
    first = list_grafts(start.model)[0]
    with torch.no_grad():
        for parameter in first.block.parameters():
            parameter.add_(0.1)
    other = with_seed(start, 7)
    kept = list_grafts(other.model)[0]
    assert same(kept.block, first.block)
    assert same(network_of(other, grafts=False), network_of(start, grafts=False))
    drawn = len(identity_grafts(start.model))
    assert drawn == len(list_grafts(start.model)) - 1
    assert describe_seeds(start) == {
        "vary": ["order and augmentation of the training images", f"initial weights of {drawn} grafts"],
        "same": ["training and validation images", "head", "initial weights of grafts that are not the identity (1)"],
    }
    assert describe_seeds(new_head())["vary"][1:] == ["head", "initial weights of the grafts"]
