"""Tiny detectors of torchvision, random images and boxes, and a comparison of detections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

from attn_surgeon.data.boxes.boxes import Boxes

CHANNELS, SIDE = 32, 64


class Backbone(nn.Sequential):
    """Two convolutions of stride 4 in all, as torchvision's detectors take them."""

    def __init__(self) -> None:
        first, second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, CHANNELS, 3, 2, 1)
        super().__init__(first, nn.ReLU(), second, nn.ReLU())
        self.out_channels = CHANNELS


SIZES = {"min_size": SIDE, "max_size": SIDE}
ANCHORS = AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),))


def rcnn(kind: Callable[..., nn.Module], classes: int) -> nn.Module:
    return kind(Backbone(), classes, rpn_anchor_generator=ANCHORS, box_detections_per_img=20, **SIZES)


def single_stage(kind: Callable[..., nn.Module], anchors: AnchorGenerator, classes: int) -> nn.Module:
    return kind(Backbone(), classes, anchor_generator=anchors, score_thresh=0.0, detections_per_img=20, **SIZES)


def ssd(classes: int, *, lite: bool = False) -> nn.Module:
    backbone: Any = Backbone()
    backbone.out_channels = [CHANNELS]
    boxes = DefaultBoxGenerator([[2]], min_ratio=20, max_ratio=50)
    head = None
    if lite:
        head = SSDLiteHead([CHANNELS], boxes.num_anchors_per_location(), classes, partial(nn.BatchNorm2d, eps=1e-3))
    network: nn.Module = SSD(backbone, boxes, (SIDE, SIDE), classes, head=head, score_thresh=0.0, detections_per_img=20)
    return network


FAMILIES: dict[str, Callable[[int], nn.Module]] = {
    "Faster R-CNN": partial(rcnn, FasterRCNN),
    "Mask R-CNN": partial(rcnn, MaskRCNN),
    "RetinaNet": partial(single_stage, RetinaNet, ANCHORS),
    "FCOS": partial(single_stage, FCOS, AnchorGenerator(((8,),), ((1.0,),))),
    "SSD": ssd,
    "SSDlite": partial(ssd, lite=True),
}


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=generator) for size in ((SIDE, SIDE), (48, SIDE))]


def targets() -> list[Boxes]:
    """Two boxes of classes 0 and 2 with a crowd region in the first image, nothing in the second."""
    boxes = torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 10.0, 60.0, 50.0], [0.0, 0.0, 64.0, 64.0]])
    first = Boxes(boxes, torch.tensor([0, 2, 1]), torch.tensor([False, False, True]))
    return [first, Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.bool))]
