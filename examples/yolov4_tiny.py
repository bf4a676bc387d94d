"""YOLOv4-tiny (Bochkovskiy et al. 2020; Wang et al. 2021): a backbone of cross-stage partial blocks, a neck, two heads.

The backbone gives two maps. The neck sends the coarse one up and joins it to the fine one; these are the places where
people put attention into this network: after both maps of the backbone and after the upsampled one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ANCHORS = 3  # boxes that each place of a map predicts


class ConvUnit(nn.Sequential):
    """Chain a convolution, BatchNorm and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.1, inplace=True),
        )


class PartialStage(nn.Module):
    """Work on one half of the channels only, and join the work of every step again."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.part = channels // 2
        self.enter = ConvUnit(channels, channels, 3)
        self.first = ConvUnit(self.part, self.part, 3)
        self.second = ConvUnit(self.part, self.part, 3)
        self.merge = ConvUnit(channels, channels, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to the next stage's input (N, 2C, H/2, W/2) and the merged map (N, C, H, W)."""
        whole = self.enter(x)
        first = self.first(whole[:, self.part :])
        second = self.second(first)
        merged = self.merge(torch.cat([second, first], 1))
        return self.pool(torch.cat([whole, merged], 1)), merged


class Backbone(nn.Module):
    """Give the maps at 1/16 and 1/32 of the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvUnit(3, 32, 3, 2), ConvUnit(32, 64, 3, 2))
        self.stage1 = PartialStage(64)
        self.stage2 = PartialStage(128)
        self.stage3 = PartialStage(256)
        self.last = ConvUnit(512, 512, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) to (N, 256, H/16, W/16) and (N, 512, H/32, W/32)."""
        x, _ = self.stage1(self.stem(x))
        x, _ = self.stage2(x)
        x, fine = self.stage3(x)
        return fine, self.last(x)


class Yolov4Tiny(nn.Module):
    """Predict boxes on two maps; H and W are multiples of 32."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.reduce = ConvUnit(512, 256, 1)
        self.lateral = ConvUnit(256, 128, 1)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.coarse_head = _head(256, 512, classes)
        self.fine_head = _head(128 + 256, 256, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) to predictions (N, 3·(5 + classes), …) at H/32 and at H/16."""
        feat1, feat2 = self.backbone(x)
        reduced = self.reduce(feat2)
        up = self.upsample(self.lateral(reduced))
        return self.coarse_head(reduced), self.fine_head(torch.cat([up, feat1], 1))


def _head(inputs: int, width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(ConvUnit(inputs, width, 3), nn.Conv2d(width, ANCHORS * (5 + classes), 1))


def yolov4_tiny(classes: int = 80) -> Yolov4Tiny:
    """Build the network with weights at random."""
    return Yolov4Tiny(classes)
