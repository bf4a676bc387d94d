"""A U-Net and FCOS whose encoder, an EfficientNet-Lite0, has its ImageNet weights."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import FeaturePyramidNetwork

from tests.benchmarks.cifar import DATA

SIDE = 160  # of the shorter side of an image, in pixels
STRIDES, WIDTH = (8, 16), 64


class Backbone(nn.Module):
    """The features of the encoder at two strides, and a pyramid of them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3))
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), WIDTH)
        self.out_channels = WIDTH

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps (N, C, H, W) of the pyramid by name."""
        maps = OrderedDict((str(number), own) for number, own in enumerate(self.body(x)))
        return cast("dict[str, Tensor]", self.fpn(maps))


def cells_detector(num_classes: int = 4) -> FCOS:
    """Build the detector; the encoder has its ImageNet weights, everything else new ones."""
    torch.manual_seed(0)
    backbone = Backbone()
    _pretrained(backbone.body)
    return FCOS(
        backbone,
        num_classes,
        min_size=SIDE,
        max_size=2 * SIDE,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES)),
        head=FCOSHead(WIDTH, 1, num_classes, num_convs=1),
        score_thresh=0.05,
        detections_per_img=60,
        topk_candidates=300,
    )


def membrane_unet(classes: int = 2) -> nn.Module:
    """Build the U-Net; the encoder has its ImageNet weights, everything else new ones."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    widths = (64, 48, 32, 24, 16)
    network: nn.Module = smp.Unet(
        "tu-tf_efficientnet_lite0", encoder_weights=None, classes=classes, decoder_channels=widths
    )
    _pretrained(network.get_submodule("encoder.model"))
    return network


def _pretrained(encoder: nn.Module) -> None:
    weights, known = load_file(DATA / "tf_efficientnet_lite0.safetensors"), encoder.state_dict()
    encoder.load_state_dict({name: value for name, value in weights.items() if name in known})
