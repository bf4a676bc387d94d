"""A detector of a few layers, for the small images with boxes of tests/data/boxes/files.py, and what trains it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing

RAW = Preprocessing((0.0,) * 3, (1.0,) * 3, (40, 48))
SETTINGS = FinetuneSettings(task="detection", epochs=2, batch_size=2, lr=3e-3, augment=False)
WIDTH = 12


class Backbone(nn.Sequential):
    """Map (N, 3, H, W) to features of a quarter of its size."""

    def __init__(self) -> None:
        super().__init__(*self._stage(3), *self._stage(WIDTH))
        self.out_channels = WIDTH

    def _stage(self, inputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, WIDTH, 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()]


def cell_detector(num_classes: int = 3) -> FasterRCNN:
    """Build the detector; the number of classes has the background."""
    torch.manual_seed(0)
    return FasterRCNN(
        Backbone(),
        rpn_anchor_generator=AnchorGenerator(((12, 18),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        box_head=TwoMLPHead(WIDTH * 9, 16),
        box_predictor=FastRCNNPredictor(16, num_classes),
        min_size=40,
        max_size=48,
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
        rpn_pre_nms_top_n_train=60,
        rpn_pre_nms_top_n_test=40,
        rpn_post_nms_top_n_train=30,
        rpn_post_nms_top_n_test=20,
        box_batch_size_per_image=16,
        box_detections_per_img=10,
    )


def loaded(num_classes: int = 3, *, block: str = "se") -> LoadedNetwork:
    """Return the detector with a graft and provenance."""
    plain = cell_detector(num_classes)
    example: Tensor = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    model = insert(plain, block, after="backbone", example=example)
    return LoadedNetwork(set_provenance(model, Provenance(SourceSpec("object", "cell_detector"), RAW)))
