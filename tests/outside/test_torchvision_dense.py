"""torchvision's segmenters and detectors: dict outputs, lists of images, losses in train mode."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection, segmentation

from attn_surgeon.operations.insert import insert

from .helpers import require_all, require_learning

pytestmark = pytest.mark.outside

SEGMENTERS: dict[str, tuple[list[str], int]] = {
    "deeplabv3_resnet50": (["backbone.layer[1-3]", "backbone:out", "classifier.0.convs.*", "classifier.0"], 10),
    "fcn_resnet50": (["backbone.layer[12]", "backbone:out", "classifier.2"], 4),
    "lraspp_mobilenet_v3_large": (["backbone.{3,12}", "backbone:low", "backbone:high", "classifier.cbr"], 5),
}
# Scores of a network at random are all low, so no box is left out for its score or for one that it overlaps.
ALL = {"box_score_thresh": 0.0}
EVERY = {"score_thresh": 0.0, "topk_candidates": 9999, "detections_per_img": 9999, "nms_thresh": 1.0}
FEW: dict[str, Any] = {"rpn_post_nms_top_n_test": 50, "rpn_post_nms_top_n_train": 50, "box_detections_per_img": 4}
DETECTORS: dict[str, tuple[dict[str, Any], list[str], int]] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (
        ALL,
        ["backbone.body.{3,6,12,16}", "backbone.fpn.layer_blocks.*"],
        6,
    ),
    "fasterrcnn_resnet50_fpn": (
        ALL | FEW,
        ["backbone.body:*", "backbone.fpn.layer_blocks.*"],
        8,
    ),
    "maskrcnn_resnet50_fpn": (
        {
            "box_score_thresh": 0.0,
            "box_detections_per_img": 4,
            "rpn_post_nms_top_n_test": 50,
            "rpn_post_nms_top_n_train": 50,
        },
        ["backbone.fpn:*", "roi_heads.mask_head.*"],
        9,
    ),
    "retinanet_resnet50_fpn": (
        EVERY,
        ["backbone.body.layer*", "backbone.fpn.layer_blocks.*", "backbone.fpn:{p6,p7}"],
        9,
    ),
    "ssdlite320_mobilenet_v3_large": (EVERY, ["backbone.features.*.3", "backbone:[1-5]"], 7),
}


# a dictionary as output, and boxes; the others are slow tests
OFTEN = ("lraspp_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn")


@cache
def images() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Make two images of unlike sizes, each with one object."""
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, *size, generator=generator) for size in ((64, 96), (80, 64))]
    targets = [
        {
            "boxes": torch.tensor([[4.0, 6.0, 44.0, 50.0]]),
            "labels": torch.tensor([1]),
            "masks": torch.ones(1, *picture.shape[1:], dtype=torch.uint8),
        }
        for picture in pictures
    ]
    return pictures, targets


def detector(name: str) -> nn.Module:
    options = DETECTORS[name][0] | ({} if name.startswith("ssd") else {"min_size": 64, "max_size": 96})
    made: nn.Module = detection.__dict__[name](weights=None, weights_backbone=None, num_classes=3, **options)
    return made


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in SEGMENTERS]
)
def test_segmenters(name: str) -> None:
    made = segmentation.__dict__[name](weights=None, weights_backbone=None, num_classes=4)
    after, sites = SEGMENTERS[name]
    x = torch.randn(2, 3, 32, 64)
    operated = require_all(made, x, sites, after=after)
    assert list(operated(x)) == ["out"]
    require_learning(operated, x)


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS]
)
def test_detectors(name: str) -> None:
    """Compare boxes, scores and masks in eval mode, and the losses with targets in train mode."""
    _, after, sites = DETECTORS[name]
    require_all(detector(name), (images()[0],), sites, training=images(), after=after)


def test_losses_teach_the_grafts_of_a_detector() -> None:
    made = detector("fasterrcnn_mobilenet_v3_large_320_fpn")
    operated = insert(made, "se", after="backbone.fpn.layer_blocks.*", example=(images()[0],))
    require_learning(operated, images(), lambda losses: torch.stack(list(losses.values())).sum())
