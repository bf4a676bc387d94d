"""A small detector for 1-channel images, torchvision's FCOS on the demo network, and its pretrained weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import nn

from attn_surgeon.networks.demo.box_scenes import SCENE_SIDE
from attn_surgeon.networks.demo.digits import CLASS_NAMES, MEAN, STD
from attn_surgeon.networks.demo.network import demo
from attn_surgeon.networks.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torchvision.models.detection import FCOS

DETECTOR_WEIGHTS = Path(__file__).with_name("demo_detector.safetensors")
STRIDE = 4  # of the trunk's last feature map, whose cells each predict a box
# the network scales and normalises images itself
DETECTOR_PREPROCESSING = Preprocessing(mean=(0.0,), std=(1.0,), size=(SCENE_SIDE, SCENE_SIDE), channels=1)


def demo_detector(num_classes: int = len(CLASS_NAMES) + 1) -> FCOS:
    """Build the demo detector with new weights.

    Args:
        num_classes: the number of classes with the background, as torchvision counts them.
    """
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOSHead

    layers = [(name, layer) for name, layer in demo().named_children() if name != "fc"]
    trunk: Any = nn.Sequential(OrderedDict(layers))
    trunk.out_channels = trunk.layer3[-1].conv2.out_channels
    return FCOS(
        trunk,
        num_classes,
        min_size=SCENE_SIDE,
        max_size=4 * SCENE_SIDE,
        image_mean=list(MEAN),
        image_std=list(STD),
        anchor_generator=AnchorGenerator(((STRIDE,),), ((1.0,),)),
        head=FCOSHead(trunk.out_channels, 1, num_classes, num_convs=1),
        score_thresh=0.05,
        detections_per_img=30,
        topk_candidates=300,
    )


def load_demo_detector() -> FCOS:
    """Build the demo detector with its pretrained weights, in eval mode."""
    model = demo_detector()
    model.load_state_dict(load_file(DETECTOR_WEIGHTS))
    return model.eval()
