"""Groups in detectors, which resize images themselves, and find classes and boxes of the same maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import attn_surgeon
from attn_surgeon.networks.demo.detector import load_demo_detector

from ...tasks.detectors.helpers import FAMILIES

STAGES = {
    "Faster R-CNN": ["backbone.1", "rpn.head.conv"],
    "RetinaNet": ["backbone.1", "backbone"],
    "FCOS": ["backbone.1", "backbone"],
    "SSD": ["backbone.1", "backbone"],
    "SSDlite": ["backbone.1", "backbone"],
}


def stages(network: nn.Module, channels: int) -> list[str]:
    example = torch.rand(1, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    return [graft.site for graft in attn_surgeon.plan(network, "se", at="stages", example=example).grafts]


@pytest.mark.parametrize("family", STAGES)
def test_the_stages_of_detectors(family: str) -> None:
    assert stages(FAMILIES[family](4).eval(), 3) == STAGES[family]


def test_the_stages_of_the_demo_detector() -> None:
    assert stages(load_demo_detector(), 1) == ["backbone.layer1", "backbone.layer2", "backbone"]
