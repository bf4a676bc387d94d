"""Opened networks: where one comes from, its images and its example."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.artefact.save import save
from attn_surgeon.errors import DataError
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_PREPROCESSING, load_demo
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.networks.preprocessing import PreprocessingOverrides as Overrides
from attn_surgeon.surgery.installed_grafts import list_grafts

USUAL = Preprocessing((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (64, 64), crop_pct=0.875)


def test_the_demo_comes_with_all_that_is_known() -> None:
    loaded = open_network("demo")
    assert loaded.provenance.source == SourceSpec("demo", "demo")
    assert (loaded.preprocessing, loaded.provenance.class_names) == (DEMO_PREPROCESSING, CLASS_NAMES)
    assert (loaded.name, loaded.notes) == ("demo", ())
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(loaded.model(x), load_demo()(x))


def test_the_example_is_the_same_every_time() -> None:
    first, second = open_network("demo").example, open_network("demo").example
    assert first.shape == (1, 1, 32, 32)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (Overrides(), USUAL),
        (Overrides(size=(64, 64)), USUAL),
        (Overrides(size=(32, 48)), Preprocessing(USUAL.mean, USUAL.std, (32, 48), crop_pct=1.0)),
        (
            Overrides(mean=(0.5,), std=(2.0,)),
            Preprocessing((0.5,), (2.0,), (64, 64), channels=1, crop_pct=0.875),
        ),
        (
            Overrides(std=(1.0, 1.0, 1.0)),
            Preprocessing(USUAL.mean, (1.0, 1.0, 1.0), (64, 64), crop_pct=0.875),
        ),
    ],
)
def test_options_override_the_preprocessing(images: Overrides, expected: Preprocessing) -> None:
    assert images.applied(USUAL) == expected


def test_a_mean_without_its_std_is_refused() -> None:
    with pytest.raises(DataError, match="std must be 1"):
        Overrides(mean=(0.5,)).applied(USUAL)


def test_an_artefact_brings_its_images_along(tmp_path: Path) -> None:
    loaded = open_network("demo", images=Overrides(size=(40, 48)))
    model = insert(loaded.model, "se", after="layer1", example=loaded.example)
    save(model, tmp_path / "x.safetensors")
    again = open_network(str(tmp_path / "x.safetensors"))
    assert again.provenance == loaded.provenance
    assert again.preprocessing.size == (40, 48)
    assert [made.graft.site for made in list_grafts(again.model)] == ["layer1"]
    assert list_grafts(again.base()) == []
    assert [made.graft.site for made in list_grafts(again.model)] == ["layer1"]


@pytest.mark.parametrize(
    ("text", "name"),
    [("demo", "demo"), ("tv/squeezenet1_1", "squeezenet1_1"), ("test_resnet.r160_in1k", "test_resnet")],
)
def test_a_name_for_files(text: str, name: str) -> None:
    loaded = open_network(text, weights="none")
    assert loaded.name == name
    assert isinstance(loaded.model, nn.Module)


def test_files_are_named_after_the_factory(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from attn_surgeon.networks.demo import demo as small\n")
    loaded = open_network(f"{tmp_path / 'mine.py'}:small", images=Overrides((0.0,), (1.0,), (32, 32)))
    assert loaded.name == "small"


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_noted(tmp_path: Path, value: float) -> None:
    model = insert(load_demo(), "se", after="layer2", example=torch.randn(1, 1, 32, 32))
    set_provenance(model, open_network("demo").provenance)
    assert open_network("demo").notes == ()
    with torch.no_grad():
        for name in ("layer1.0.conv2.weight", "layer2.0.bn1.bias"):
            model.get_parameter(name)[0] = value
    save(model, tmp_path / "x.safetensors")
    notes = open_network(str(tmp_path / "x.safetensors")).notes
    assert notes == ("the weights hold NaN or infinity: layer1.0.conv2.weight and 1 more",)
