"""Small networks with stages, each built like a family people use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .joins import PatchMerging, RepVGG, TransformerBlock


def unit(
    inputs: int, outputs: int, stride: int = 1, kernel: int = 3, groups: int = 1, act: type[nn.Module] = nn.ReLU6
) -> nn.Sequential:
    """Chain a convolution, a norm and an activation."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), act())


class Basic(nn.Module):
    """Be ResNet's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        plain = stride == 1 and inputs == outputs
        self.downsample = None if plain else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Basic(8, 8), Basic(8, 8))
        self.layer2 = nn.Sequential(Basic(8, 16, 2), Basic(16, 16))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))  # type: ignore[no-any-return]


class Inverted(nn.Module):
    """Widen, filter with a stride, and narrow again, as MobileNet V2 does."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide, self.shortcut = 2 * inputs, stride == 1 and inputs == outputs
        narrow = (nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.conv = nn.Sequential(unit(inputs, wide, 1, 1), unit(wide, wide, stride, 3, wide), *narrow)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)  # type: ignore[no-any-return]


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        blocks = [Inverted(8, 8, 1), Inverted(8, 12, 2), Inverted(12, 12, 1), Inverted(12, 16, 2)]
        self.features = nn.Sequential(unit(3, 8, 2), *blocks, unit(16, 24, 1, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(24, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))  # type: ignore[no-any-return]


class Mixed(nn.Module):
    """Convolve two halves of the channels apart, as MixNet does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.halves = nn.ModuleList(nn.Conv2d(inputs // 2, outputs // 2, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([half(part) for half, part in zip(self.halves, x.chunk(2, 1), strict=True)], 1)


class NarrowStages(nn.Module):
    """Start with a stage of one convolution that narrows, in a container with the stages after it.

    The next stage downsamples at once, or, with `mixed`, after it was widened by two convolutions side by side.
    """

    def __init__(self, *, mixed: bool = False) -> None:
        super().__init__()
        self.stem = unit(3, 16, 2)
        first = nn.Sequential(Mixed(8, 16), unit(16, 16, 2, 3, 16)) if mixed else unit(8, 16, 2)
        strided = nn.Sequential(first, nn.Conv2d(16, 12, 1))
        self.blocks = nn.Sequential(nn.Sequential(unit(16, 8)), nn.Sequential(strided), nn.Sequential(unit(12, 24, 2)))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.blocks(self.stem(x))).flatten(1))  # type: ignore[no-any-return]


class SwinStage(nn.Module):
    """Run transformer blocks on (N, H, W, C), with the merging first or last."""

    def __init__(self, channels: int, *, first: bool = False, last: bool = False) -> None:
        super().__init__()
        self.before = PatchMerging(channels // 2) if first else nn.Identity()
        self.blocks = nn.Sequential(MapBlock(channels), MapBlock(channels))
        self.after = PatchMerging(channels) if last else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.blocks(self.before(x)))  # type: ignore[no-any-return]


class MapBlock(TransformerBlock):
    """Run a transformer block on a map (N, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, channels = x.shape
        return super().forward(x.reshape(n, -1, channels)).reshape(n, height, width, channels)


class Swin(nn.Module):
    """Merge patches at the beginning of the second stage, or at the end of the first."""

    def __init__(self, *, at_end: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.stage1, self.stage2 = SwinStage(8, last=at_end), SwinStage(16, first=not at_end)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.embed(x).permute(0, 2, 3, 1)))
        return self.head(self.norm(x).mean((1, 2)))  # type: ignore[no-any-return]


class FlatEnd(nn.Module):
    """Norms the last stage and flattens its positions for a head that averages them, as EfficientViM does."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU())
        self.norm, self.head = nn.GroupNorm(1, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        last = self.norm(self.stage2(self.stage1(x))).flatten(2)
        logits: Tensor = self.head(last.mean(-1))
        return logits


class VGG(nn.Module):
    """Chain convolutions, activations and poolings; take one size only."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Linear(16 * 16 * 16, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Give every pixel a class; the encoder's maps pass its lower stages by."""

    def __init__(self, up: nn.Module | None = None) -> None:
        super().__init__()
        self.enc1, self.enc2, self.enc3 = unit(3, 8), unit(8, 16), unit(16, 16)
        self.pool, self.up = nn.MaxPool2d(2), up or nn.Upsample(scale_factor=2)
        self.dec2, self.dec1, self.out = unit(32, 8), unit(16, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.enc1(x)
        second = self.enc2(self.pool(first))
        y = self.enc3(self.pool(second))
        y = self.dec2(torch.cat([self.up(y), second], 1))
        y = self.dec1(torch.cat([F.interpolate(y, scale_factor=2.0), first], 1))
        return self.out(y)  # type: ignore[no-any-return]


class RepVGGNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage0 = RepVGG(3, 8, 2)
        self.stage1 = nn.Sequential(RepVGG(8, 8, 2), RepVGG(8, 8))
        self.stage2 = nn.Sequential(RepVGG(8, 16, 2))
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.stage0(x)))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class ClassToken(nn.Module):
    """Classify by a class token, or by the mean of the others."""

    def __init__(self, *, token: bool) -> None:
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, 8, 8, 8), token
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.Sequential(*(TransformerBlock() for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), 1)
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0] if self.token else x[:, 1:].mean(1))  # type: ignore[no-any-return]


class TwoHeads(nn.Module):
    """Classify the last map and an earlier one."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.stage2 = unit(3, 8, 2), unit(8, 16, 2)
        self.aux, self.fc = nn.Linear(8, 2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.stage1(x)
        return self.fc(self.stage2(first).mean((2, 3))), self.aux(first.mean((2, 3)))


class Backbone(nn.Module):
    """Give the features of two stages."""

    def __init__(self, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stage1, self.stage2 = unit(3, 8, 2, act=act), unit(8, 16, 2, act=act)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.stage1(x)
        return [first, self.stage2(first)]


class Enlarged(nn.Module):
    """Make a map larger, by a module or a function."""

    def __init__(self, up: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.up, self.out = unit(3, 12), up, nn.LazyConv2d(3, 3, padding=1)
        self.out(self.up(torch.zeros(1, 12, 4, 4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.up(self.conv(x)))  # type: ignore[no-any-return]


class Convs(nn.Module):
    """Have a convolution as one module with its activation, one with a functional one, one pooled, and one bare."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.conv, self.bn = unit(3, 8), nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.bare, self.squeeze, self.fc = nn.Conv2d(8, 8, 1), unit(8, 8, 1, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.bn(self.conv(self.whole(x))))
        x = self.squeeze(F.adaptive_avg_pool2d(self.bare(x), 1))
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]
