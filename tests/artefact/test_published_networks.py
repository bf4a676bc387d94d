"""Recipes against the networks that they are named after, with the weights copied over."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import timm
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.recipe import read_recipe
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from tests.blocks.helpers import at_random
from tests.blocks.prints.cbam import CbamBlock
from tests.blocks.prints.coord import CABlock
from tests.blocks.prints.squeeze import EcaBlock, SELayer
from tests.examples.example_files import REPO, example

SE = {"fc1": "fc1", "fc2": "fc2"}
TIMM_CBAM = {"channel.mlp.0": "channel.fc1", "channel.mlp.2": "channel.fc2"}
TIMM_CBAM |= {"spatial.conv": "spatial.conv.conv", "spatial.bn": "spatial.conv.bn"}
RESNETS: dict[str, tuple[str, Mapping[str, object], str, dict[str, str]]] = {
    "resnet18-se": ("seresnet18", {}, "resnet18", SE),
    "resnet50-se": ("seresnet50", {}, "resnet50", SE),
    "resnet50d-eca": ("ecaresnet50d", {}, "resnet50d", {"conv": "conv"}),
    "resnet18-cbam": ("resnet18", {"block_args": {"attn_layer": "cbam"}}, "resnet18", TIMM_CBAM),
}
CBAM = {"channel.mlp.0": "channelattention.fc1", "channel.mlp.2": "channelattention.fc2"}
CBAM |= {"spatial.conv": "spatialattention.conv1"}
CA = {"squeeze": "conv_1x1", "bn": "bn", "conv_h": "F_h", "conv_w": "F_w"}
YOLOS: dict[str, tuple[Callable[[int], nn.Module], dict[str, str]]] = {
    "yolov4-tiny-se": (SELayer, {"fc1": "fc.0", "fc2": "fc.2"}),
    "yolov4-tiny-cbam": (CbamBlock, CBAM),
    "yolov4-tiny-eca": (EcaBlock, {"conv": "conv"}),
    "yolov4-tiny-coord": (CABlock, CA),
}


class AttendedYolo(nn.Module):
    """YOLOv4-tiny with attention written into its forward."""

    def __init__(self, block: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.body = example("yolov4_tiny").yolov4_tiny(classes=3)
        self.feat1_att, self.feat2_att, self.upsample_att = block(256), block(512), block(128)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feat1, feat2 = self.body.backbone(x)
        feat1, feat2 = self.feat1_att(feat1), self.feat2_att(feat2)
        p5 = self.body.reduce(feat2)
        up = self.upsample_att(self.body.upsample(self.body.lateral(p5)))
        return self.body.coarse_head(p5), self.body.fine_head(torch.cat([up, feat1], 1))


def attended(recipe: str, network: nn.Module, x: Tensor) -> nn.Module:
    """Return a network with a recipe's blocks in it, their gates as published."""
    step = read_recipe(str(REPO / "recipes" / f"{recipe}.yaml")).operations[0].insert
    return insert(network, step.block, at=step.at, after=step.after, options=step.options, init="paper", example=x)


def copy(block: nn.Module, published: nn.Module, names: Mapping[str, str]) -> None:
    given = published.state_dict()
    state = block.state_dict()
    for key, value in state.items():
        layer = next(name for name in names if key.startswith(f"{name}."))
        state[key] = given[names[layer] + key.removeprefix(layer)].reshape(value.shape)
    block.load_state_dict(state)


def outputs(model: nn.Module, x: Tensor, training: bool) -> list[Tensor]:
    made = model.train(training)(x)
    return [made] if isinstance(made, Tensor) else list(made)


@torch.no_grad()
def compare(model: nn.Module, published: nn.Module, x: Tensor) -> float:
    """Return the largest difference of outputs, in evaluation and in training."""
    pairs = [
        pair
        for training in (False, True)
        for pair in zip(outputs(model, x, training), outputs(published, x, training), strict=True)
    ]
    return max((one - other).abs().max().item() for one, other in pairs)


@pytest.mark.parametrize("recipe", RESNETS)
def test_a_resnet_is_timms(recipe: str) -> None:
    name, options, base, names = RESNETS[recipe]
    torch.manual_seed(0)
    published = timm.create_model(name, num_classes=5, zero_init_last=False, **options).double()
    network, x = timm.create_model(base, num_classes=5).double(), torch.randn(2, 3, 64, 64).double()
    given = published.state_dict()
    network.load_state_dict({key: given[key] for key in network.state_dict()})
    model = attended(recipe, network, x)
    grafts = list_grafts(model)
    assert len(grafts) == sum(len(stage) for stage in (network.layer1, network.layer2, network.layer3, network.layer4))
    for made in grafts:
        copy(made.block, published.get_submodule(made.graft.site.rpartition(".")[0] + ".se"), names)
    difference = compare(model, published, x)
    assert difference <= 1e-12
    own, theirs = model.state_dict(), published.state_dict()
    for key in network.state_dict():  # running statistics among them
        torch.testing.assert_close(own[key], theirs[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recipe", YOLOS)
def test_a_yolov4_tiny_is_its_authors(recipe: str) -> None:
    block, names = YOLOS[recipe]
    torch.manual_seed(0)
    published, x = AttendedYolo(block).double(), torch.randn(2, 3, 64, 96).double()
    for part in (published.feat1_att, published.feat2_att, published.upsample_att):
        at_random(part)
    network = example("yolov4_tiny").yolov4_tiny(classes=3).double()
    network.load_state_dict(published.body.state_dict())
    model = attended(recipe, network, x)
    places = {"backbone:0": "feat1_att", "backbone:1": "feat2_att", "upsample": "upsample_att"}
    for made in list_grafts(model):
        copy(made.block, published.get_submodule(places[made.graft.site]), names)
    assert len(list_grafts(model)) == 3
    difference = compare(model, published, x)
    assert difference <= 1e-12


@pytest.mark.parametrize("recipe", [*RESNETS, *YOLOS])
def test_a_recipe_is_valid(recipe: str) -> None:
    assert (REPO / "recipes" / f"{recipe}.yaml").is_file()
    assert len(read_recipe(str(REPO / "recipes" / f"{recipe}.yaml")).operations) == 1
