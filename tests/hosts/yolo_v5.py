"""A small network in the style of YOLOv5, YOLOv7 and YOLOX: convolutions that are given another forward when fused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from .networks import Placements

CONV = Placements("stem", "stem.bn", "last")
CSP = Placements("csp", "csp.m.0.cv2", "csp.cv3")
NORM = Placements("stem.conv", "csp.cv1.bn", "stem.bn")


class Conv(nn.Module):
    """A convolution, its norm and an activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn, self.act = nn.BatchNorm2d(outputs), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out

    def forward_fuse(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.conv(x))
        return out


class Bottleneck(nn.Module):
    """Two convolutions and the input added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(width, width), Conv(width, width, 3), True

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    """Two paths, one of them with bottlenecks, that are joined."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.cv1, self.cv2, self.cv3 = Conv(width, half), Conv(width, half), Conv(width, width)
        self.m = nn.Sequential(Bottleneck(half))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))
        return out


class Yolo(nn.Module):
    """A stem, a stage and a convolution, with `fuse` as the networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.csp, self.last = Conv(3, 16, 3, 2), C3(16), Conv(16, 8, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.csp(self.stem(x)))
        return out

    def fuse(self) -> Yolo:
        for module in self.modules():
            if isinstance(module, Conv) and hasattr(module, "bn"):
                module.conv = fuse_conv_bn_eval(module.conv, module.bn)
                delattr(module, "bn")
                module.forward = module.forward_fuse  # type: ignore[method-assign]
        return self


def fused(network: Any, x: Any) -> Any:
    return network.fuse()


def fused_by_type(network: Any, x: Any) -> Any:
    """Fuse where the class is `Conv` itself, as YOLOv6 and scripts do."""
    for module in network.modules():
        if type(module) is Conv and hasattr(module, "bn"):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            delattr(module, "bn")
            module.forward = module.forward_fuse  # type: ignore[method-assign]
    return network


def fused_twice(network: Any, x: Any) -> Any:
    return network.fuse().fuse()


def fused_first() -> nn.Module:
    return Yolo().eval().fuse()
