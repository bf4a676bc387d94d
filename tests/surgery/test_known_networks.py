"""Well-known networks at random weights: blocks at the end of every stage change nothing and come off again."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.rewrite.operated_modules import is_operated
from attn_surgeon.surgery.running import run_network, same_bits

# network: (selector of its stages, smallest sensible input size)
TORCHVISION = {
    "resnet18": ("layer*", 64),
    "resnet50": ("layer*", 64),
    "mobilenet_v3_small": ("features.{1,3,8,12}", 64),
    "efficientnet_b0": ("features.?", 64),
    "convnext_tiny": ("features.{1,3,5,7}", 64),
    "densenet121": ("features.denseblock*", 64),
    "vgg11_bn": ("features.{6,13,20,27}", 32),
    "googlenet": ("inception*", 96),
    "swin_t": ("features.{1,3,5,7}", 64),
}
TIMM = {
    "resnet50": ("layer*", 64),
    "vit_tiny_patch16_224": ("blocks.{2,5,8,11}", 64),
    "dla34": ("level*", 64),
    "convnext_atto": ("stages.*", 64),
    "convnext_zepto_rms": ("stages.*", 64),
    "efficientnet_b0": ("blocks.*", 64),
    "mobilenetv3_large_100": ("blocks.*", 64),
    "regnetx_002": ("s*", 64),
    "xcit_nano_12_p8_224": ("blocks.{2,5,8,11}", 64),
}
SMALLER: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False},
    "vit_tiny_patch16_224": {"img_size": 64},
}
NETWORKS = [("torchvision", name) for name in TORCHVISION] + [("timm", name) for name in TIMM]
OFTEN = [*NETWORKS[1::3], ("torchvision", "swin_t")]  # the others are slow tests


def network(library: str, name: str) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extra = SMALLER.get(name, {})
        if library == "timm":
            return timm.create_model(name, **extra)  # type: ignore[no-any-return]
        return torchvision.models.get_model(name, weights=None, **extra)  # type: ignore[no-any-return]


def original(library: str, name: str) -> tuple[nn.Module, Tensor, list[Tensor]]:
    """Return the network, an input, and its outputs in both modes with its state after training."""
    model = network(library, name)
    size = (TORCHVISION if library == "torchvision" else TIMM)[name][1]
    x = torch.randn(2, 3, size, size)
    return model, x, outputs(model, x)


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    trained = copy.deepcopy(model)
    results = [run_network(model, x), run_network(trained, x, training=True)]
    return results + [value for key, value in trained.state_dict().items() if "attn_surgeon." not in key]


@pytest.mark.parametrize(
    ("library", "name"), [item if item in OFTEN else pytest.param(*item, marks=pytest.mark.slow) for item in NETWORKS]
)
def test_identity_and_removal(library: str, name: str) -> None:
    model, x, expected = original(library, name)
    selector = (TORCHVISION if library == "torchvision" else TIMM)[name][0]
    operated = insert(model, "cbam+se", after=selector, example=x, options={"cbam.reduction": 4, "se.reduction": 4})
    assert len(list_grafts(operated)) >= 4
    assert same_bits(outputs(operated, x), expected)
    restored = remove(operated, inplace=True)
    assert [type(module) for module in restored.modules()] == [type(module) for module in model.modules()]
    assert not any(is_operated(module) for module in restored.modules())
    assert list(restored.state_dict()) == list(model.state_dict())
    assert same_bits(list(restored.state_dict().values()), list(model.state_dict().values()))
    assert torch.equal(run_network(restored, x), expected[0])
