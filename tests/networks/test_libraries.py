"""Networks of timm and torchvision, and the demo, without downloads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attn_surgeon.errors import SourceError, WeightsError
from attn_surgeon.networks import SourceSpec, build_network, load_source, parse_source
from attn_surgeon.networks.preprocessing import Preprocessing

from .helpers import IMAGENET, SMALL, holds, layer, load, random, refused


def test_timm_without_weights() -> None:
    loaded = load("test_resnet", num_classes="7")
    assert loaded.spec == SourceSpec("timm", SMALL, {"num_classes": 7}, "none")
    assert loaded.preprocessing == Preprocessing((0.5,) * 3, (0.5,) * 3, (160, 160), 3, "bilinear", 0.95)
    assert loaded.class_names is None
    assert loaded.notes == ("test_resnet is timm's",)
    assert not loaded.model.training
    assert loaded.model(torch.zeros(1, 3, 160, 160)).shape == (1, 7)


def test_timm_with_other_channels_averages_the_normalisation() -> None:
    loaded = load("timm/resnet10t", in_chans="1")
    assert loaded.preprocessing.channels == 1
    assert loaded.preprocessing.mean == pytest.approx((sum(IMAGENET[0]) / 3,))
    assert loaded.notes == ()


def test_old_timm_names_become_the_new_ones() -> None:
    assert load("timm/mobilenetv3_large_100_miil").spec.name == "mobilenetv3_large_100.miil_in21k_ft_in1k"


def test_bare_names_note_the_other_library() -> None:
    assert load("resnet18").notes == ("resnet18 is timm's (torchvision has one too: tv/resnet18)",)
    assert load("alexnet").notes == ("alexnet is torchvision's",)


@pytest.mark.parametrize("text", ["timm/resnet18", "tv/resnet18"])
def test_unknown_arguments_name_the_valid_ones(text: str) -> None:
    error = refused(text, num_clases="3")
    assert error.what == "unknown argument 'num_clases'"
    assert "did you mean num_classes" in error.hint


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("timm/resnet18", "pretrained"),
        ("timm/resnet18", "checkpoint_path"),
        ("tv/resnet18", "weights_backbone"),
    ],
)
def test_arguments_that_would_choose_weights_are_refused(text: str, name: str) -> None:
    assert refused(text, **{name: "x"}).what == f"argument {name} is reserved"


def test_arguments_of_a_wrong_value() -> None:
    assert "cannot be built" in refused("timm/resnet18", num_classes="many").what


def test_torchvision_without_weights() -> None:
    loaded = load("tv/squeezenet1_1", num_classes="5")
    assert loaded.preprocessing == Preprocessing(*IMAGENET, (224, 224), crop_pct=0.875)
    assert loaded.class_names is None
    assert loaded.model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("weights", ["none", "default"])
def test_googlenet_is_built_as_for_its_weights(weights: str) -> None:
    model = build_network(parse_source("tv/googlenet", weights=weights))
    assert vars(model)["transform_input"]
    assert getattr(model, "aux1", "missing") is None
    x = torch.randn(2, 3, 64, 64)
    assert model(x).shape == (2, 1000)
    assert model.train()(x).shape == (2, 1000)


def test_inception_expects_299() -> None:
    settings = load_source(SourceSpec("torchvision", "inception_v3", {"init_weights": False}, "none")).preprocessing
    assert settings.size == (299, 299)


def test_segmentation_is_built_as_for_its_weights_without_any_download() -> None:
    assert (
        layer(build_network(parse_source("tv/lraspp_mobilenet_v3_large")), "classifier.low_classifier").out_channels
        == 21
    )
    trained, untrained = (build_network(parse_source("tv/fcn_resnet50", weights=w)) for w in ("default", "none"))
    assert trained.aux_classifier is not None
    assert untrained.aux_classifier is None


def test_building_for_weights_leaves_loading_intact() -> None:
    build_network(parse_source("tv/squeezenet1_1"))
    model, values = nn.Linear(2, 2), random(nn.Linear(2, 2))
    model.load_state_dict(values)
    assert holds(model, values)


@pytest.mark.parametrize("name", ["mobilenet_v2", "inception_v3", "googlenet"])
def test_quantizable_names_build_in_floating_point(name: str) -> None:
    model = build_network(parse_source(f"tv/quantized_{name}"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_demo() -> None:
    from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_PREPROCESSING, load_demo

    loaded = load("demo", weights="default")
    assert holds(loaded.model, load_demo().state_dict())
    assert (loaded.preprocessing, loaded.class_names) == (DEMO_PREPROCESSING, CLASS_NAMES)
    untrained = load("demo", num_classes="3")
    assert untrained.class_names is None
    assert isinstance(refused("demo", weights="default", num_classes="3"), WeightsError)
    assert "num_classes" in refused("demo", classes="3").hint


def test_a_network_of_python_cannot_be_built_again() -> None:
    for call in (build_network, load_source):
        with pytest.raises(SourceError, match="passed in Python"):
            call(SourceSpec("object", "Net"))
