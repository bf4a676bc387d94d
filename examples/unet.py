"""A U-Net (Ronneberger et al. 2015) with BatchNorm, and where attention goes in it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

import attn_surgeon


class DoubleConv(nn.Sequential):
    """Chain two 3x3 convolutions, each with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(*_conv(inputs, outputs), *_conv(outputs, outputs))


class Up(nn.Module):
    """Enlarge the deeper map, join it to the encoder's map of that size, and convolve."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.convs = DoubleConv(2 * outputs, outputs)

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        """Map (N, 2C, H/2, W/2) and (N, C, H, W) to (N, C, H, W)."""
        return cast(Tensor, self.convs(torch.cat([skip, self.enlarge(deeper)], 1)))


class UNet(nn.Module):
    """Label every pixel; H and W are multiples of 16."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.enc1 = DoubleConv(3, width)
        self.enc2 = DoubleConv(width, 2 * width)
        self.enc3 = DoubleConv(2 * width, 4 * width)
        self.enc4 = DoubleConv(4 * width, 8 * width)
        self.bottom = DoubleConv(8 * width, 16 * width)
        self.up4 = Up(16 * width, 8 * width)
        self.up3 = Up(8 * width, 4 * width)
        self.up2 = Up(4 * width, 2 * width)
        self.up1 = Up(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to logits (N, classes, H, W)."""
        first = self.enc1(x)
        second = self.enc2(self.pool(first))
        third = self.enc3(self.pool(second))
        fourth = self.enc4(self.pool(third))
        x = self.up4(self.bottom(self.pool(fourth)), fourth)
        x = self.up1(self.up2(self.up3(x, third), second), first)
        return cast(Tensor, self.head(x))


def attend(model: nn.Module, x: Tensor) -> nn.Module:
    """Put CBAM after every stage of the encoder, gates on the skips, and a filter that fuses both maps at the deepest.

    The gates weigh the encoder's maps by the decoder's they are joined with; the filter aligns the deepest of the
    decoder's maps with the encoder's. Still the same output, bit for bit.
    """
    model = attn_surgeon.insert(model, block="cbam", after="enc*", example=x)
    model = attn_surgeon.insert(model, block="gate", at="skips", example=x)
    return attn_surgeon.insert(model, block="mdaf", before="up4.cat:1", example=x)


def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def unet(classes: int = 2, width: int = 16) -> UNet:
    """Build the network with weights at random."""
    return UNet(classes, width)
