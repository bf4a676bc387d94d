"""Blocks in which paths meet: branches added to a stream, and features fused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .basics import WIDTH, conv

Block = Callable[[], nn.Module]


class Between(nn.Module):
    """Put a block between a stem and a classifier, so that its shortcut is no image."""

    def __init__(self, block: nn.Module, channels: int = WIDTH) -> None:
        super().__init__()
        self.stem, self.block, self.fc = conv(), block, nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class DropPath(nn.Module):
    """Drop whole samples in train mode; pass the input on in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.5) if self.training else x


class Scaled(nn.Module):
    """Scale the branch by a vector and drop it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale, self.drop_path = conv(), nn.Parameter(torch.randn(WIDTH, 1, 1)), DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.scale * self.conv(x))  # type: ignore[no-any-return]


class Projected(nn.Module):
    """Project the shortcut too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = conv(), nn.BatchNorm2d(WIDTH), conv(), nn.BatchNorm2d(WIDTH)
        self.downsample = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += self.downsample(x)
        return F.relu(out)


class PreActivated(nn.Module):
    """Norm and activate first, for the branch alone."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.conv1, self.bn2, self.conv2 = nn.BatchNorm2d(WIDTH), conv(), nn.BatchNorm2d(WIDTH), conv()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(out))) + x  # type: ignore[no-any-return]


class Parallel(nn.Module):
    """Add two branches of one value, as ViT-22B does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.m = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.a(x) + self.m(x)  # type: ignore[no-any-return]


class RepVGG(nn.Module):
    """Sum a 3×3 path, a 1×1 path and a norm, as RepVGG does before it is folded."""

    def __init__(self, inputs: int = WIDTH, outputs: int = WIDTH, stride: int = 1) -> None:
        super().__init__()
        self.conv3, self.bn3 = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
        self.bn = nn.BatchNorm2d(inputs) if stride == 1 and inputs == outputs else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn3(self.conv3(x)) + self.bn1(self.conv1(x))
        return self.relu(out if self.bn is None else out + self.bn(x))  # type: ignore[no-any-return]


class Pooled(nn.Module):
    """Mix places by pooling alone, as PoolFormer does."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.pool = nn.GroupNorm(1, WIDTH), nn.AvgPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + (self.pool(y) - y)  # type: ignore[no-any-return]


class Elementwise(nn.Module):
    """Add a value to a rescaling of itself, as ConvNeXt V2's response norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = conv(), nn.Parameter(torch.randn(WIDTH, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        norms = x.norm(dim=(2, 3), keepdim=True)
        return x + self.weight * (x * (norms / norms.mean(1, keepdim=True)))  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Add attention and an MLP, one after the other, to tokens."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = SelfAttention(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 16), nn.GELU(), nn.Linear(16, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Attend with two heads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, length, channels = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, 2, channels // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, channels)
        return self.proj(y)  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """Add a coarse map, made larger, to a fine one, as feature pyramids do."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv(), nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)
        self.lateral, self.top, self.out = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1), conv()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = F.relu(self.fine(x))
        top = self.top(F.relu(self.coarse(fine)))
        joined = self.lateral(fine) + F.interpolate(top, scale_factor=2.0)
        return OrderedDict(fine=self.out(joined), coarse=top)


class PatchMerging(nn.Module):
    """Cat the four pixels of each 2×2 square of (N, H, W, C) and reduce, as Swin does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))  # type: ignore[no-any-return]


class Atrous(nn.Module):
    """Cat convolutions of several reaches and the pooled map spread out again, as DeepLab does."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 3, padding=2, dilation=2)
        self.pooled, self.project = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(3 * WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.interpolate(self.pooled(F.adaptive_avg_pool2d(x, 1)), size=x.shape[-2:], mode="bilinear")
        return self.project(torch.cat([self.near(x), self.far(x), pooled], 1))  # type: ignore[no-any-return]
