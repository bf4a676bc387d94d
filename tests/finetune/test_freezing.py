"""The head: what nothing but the network's outputs is made from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from attn_surgeon.finetune.freezing import heads

HEADS = {
    "lraspp_mobilenet_v3_large": {"classifier.low_classifier", "classifier.high_classifier"},
    "fcn_resnet50": {"classifier.4", "aux_classifier.4"},
    "squeezenet1_1": {"classifier.1"},
}


@pytest.mark.parametrize("name", HEADS)
def test_every_layer_that_makes_an_output_is_the_head(name: str) -> None:
    args: dict[str, Any] = {} if name == "squeezenet1_1" else {"weights_backbone": None}
    model = get_model(name, weights=None, **args, **({"aux_loss": True} if "fcn" in name else {}))
    model.requires_grad_(False).requires_grad_(True)
    flags = [module.training for module in model.modules()]
    assert set(heads(model, torch.zeros(1, 3, 64, 64))) == HEADS[name]
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_layer_of_the_heads_width_elsewhere_is_not_the_head() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(inplace=True))
    assert heads(model, torch.zeros(1, 3, 8, 8)) == ["2"]
