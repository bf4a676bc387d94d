"""A head for the data's classes: the rest of the network stays, and the artefact loads again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from attn_surgeon import insert
from attn_surgeon.artefact import Provenance, load, save, set_provenance
from attn_surgeon.graph.surgery import list_grafts
from attn_surgeon.preprocessing import Preprocessing
from attn_surgeon.sources import load_source, parse_source
from attn_surgeon.subject import Subject
from attn_surgeon.train.head import fitted
from attn_surgeon.train.settings import TrainingError

from .helpers import operated, same, subject

CLASSES = ("cat", "dog", "fox")
RGB = Preprocessing((0.5,) * 3, (0.5,) * 3, (64, 64))


def test_a_head_that_fits_stays_and_its_classes_are_named() -> None:
    start = subject()
    done = fitted(start, tuple("abcdefghij"), seed=0)
    assert same(done.model, operated())
    assert done.provenance.class_names == tuple("abcdefghij")
    assert done.notes == ()


@pytest.mark.parametrize("name", ["demo", "timm/resnet10t", "tv/mobilenet_v3_small", "timm/convnext_atto"])
def test_only_the_head_changes_and_the_artefact_loads(name: str, tmp_path: Path) -> None:
    loaded = load_source(parse_source(name, weights="none"))
    images = loaded.preprocessing if name == "demo" else RGB
    provenance = Provenance(loaded.spec, images)
    start = Subject(loaded.model, provenance)
    model = insert(loaded.model, "se", at="stages", example=start.example)
    set_provenance(model, provenance)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    done = fitted(replace(start, model=model), CLASSES, seed=0)
    head = {key for key, tensor in done.model.state_dict().items() if tensor.shape != before[key].shape}
    assert len(head) == 2
    assert all(torch.equal(tensor, before[key]) for key, tensor in done.model.state_dict().items() if key not in head)
    assert "is new: 3 outputs" in done.notes[0]
    assert len(list_grafts(done.model)) == len(list_grafts(model)) > 0
    save(done.model, tmp_path / "x.safetensors")
    again = load(tmp_path / "x.safetensors")
    assert same(again, done.model)
    assert again(start.example).shape == (1, 3)


def test_a_new_head_is_the_seeds() -> None:
    heads = [fitted(subject(), CLASSES, seed).model.get_submodule("fc").weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])  # type: ignore[arg-type]
    assert not torch.equal(heads[0], heads[2])  # type: ignore[arg-type]


def test_a_network_of_ones_own_is_not_built_because_a_file_names_it() -> None:
    start = subject()
    own = replace(start.provenance, source=replace(start.provenance.source, kind="file", name="evil.py:net"))
    with pytest.raises(TrainingError, match="10 outputs, the data 3 classes"):
        fitted(replace(start, provenance=own), CLASSES, seed=0)


def test_what_gives_no_logits_is_refused() -> None:
    start = subject()
    with pytest.raises(TrainingError, match="logits"):
        fitted(replace(start, model=nn.Conv2d(1, 1, 1)), CLASSES, seed=0)
