"""timm's feature extractors, which give a list of maps in place of logits."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import run_network

from .helpers import require_all, require_learning

pytestmark = pytest.mark.outside

Extractor = tuple[dict[str, Any], list[str], int]

# network: (options, selectors after which blocks go, how many grafts)
EXTRACTORS: dict[str, Extractor] = {
    "resnet18": ({}, ["layer*"], 4),
    "efficientnet_b0": ({"out_indices": (1, 2, 4)}, ["blocks.{1,2,4}"], 3),
    "convnext_atto": ({}, ["stages_*", "stages_*.blocks.0.conv_dw"], 8),
    "vit_tiny_patch16_224": ({"img_size": 64, "out_indices": (2, 5)}, ["model.blocks.{2,5}"], 2),
    "dla34": ({}, ["level*"], 6),
    "swin_tiny_patch4_window7_224": ({"img_size": 64, "window_size": 2}, ["layers_*"], 4),
    "pvt_v2_b0": ({}, ["stages_*"], 4),
}


@pytest.mark.parametrize(
    ("name", "block"),
    [
        pytest.param(name, block, marks=() if (i + j) % 4 == 1 else pytest.mark.slow)
        for i, name in enumerate(EXTRACTORS)
        for j, block in enumerate(("se", "cbam"))
    ],
)
def test_feature_extractors(name: str, block: str) -> None:
    options, after, sites = EXTRACTORS[name]
    model = timm.create_model(name, features_only=True, **options)
    x = torch.randn(2, 3, 64, 64)
    operated = require_all(model, x, sites, block=block, after=after)
    require_learning(operated, x)
    assert operated.feature_info.channels() == [channels(level) for level in run_network(operated, x)]


def channels(level: Tensor) -> int:
    """Return the length of the axis that is not the batch and not square."""
    return level.shape[1] if level.shape[2] == level.shape[3] else level.shape[3]


def test_a_graft_changes_its_own_level_and_the_deeper_ones() -> None:
    model = timm.create_model("resnet18", features_only=True)
    x = torch.randn(1, 3, 64, 64)
    operated = insert(model, "se", after="layer3", example=x)
    (made,) = list_grafts(operated)
    torch.nn.init.constant_(made.block.get_parameter("fc2.bias"), 1.0)
    same = [
        torch.equal(mine, theirs) for mine, theirs in zip(run_network(model, x), run_network(operated, x), strict=True)
    ]
    assert same == [True, True, True, False, False]
