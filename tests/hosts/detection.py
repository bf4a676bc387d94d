"""Hosts that put a backbone into a network of torchvision's detection."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .apart import flowing_into
from .networks import Placements
from .rebuilt import frozen_batchnorm

WHOLE = Placements("backbone.body.layer2", "backbone.body.layer2.0.bn2", "backbone.body.layer2.0.conv2")
LAYERS = Placements("layer2", "layer2.0.bn2", "layer2.0.conv2")


def resnet() -> nn.Module:
    from torchvision.models import resnet18

    network: nn.Module = resnet18(weights=None, num_classes=10)
    return network


def image() -> Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def pyramid(network: nn.Module, x: Any) -> Any:
    """Make a pyramid of the classifier's stages; it is the last stage that is looked at."""
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    body = _resnet_fpn_extractor(network, trainable_layers=3).body
    return lambda x: body(x)["3"]


def retinanet() -> nn.Module:
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    detector: nn.Module = RetinaNet(
        _resnet_fpn_extractor(resnet(), trainable_layers=5), num_classes=3, min_size=64, max_size=64
    )
    return detector


def images() -> tuple[list[Tensor]]:
    return ([image()[0]],)


def features(network: Any, x: Any) -> Any:
    """Give what flows into the pyramid when the detector runs."""
    return flowing_into("backbone.fpn")(network, x)


def kept_whole(network: nn.Module, x: Any) -> Any:
    """Copy the detector, train mode and back included."""
    twin = copy.deepcopy(network).train().eval()
    return lambda x: features(twin, x)


def norms_frozen(network: nn.Module, x: Any) -> Any:
    frozen = frozen_batchnorm(network, x)
    return lambda x: features(frozen, x)
