"""Networks with side branches at lower resolutions, and with branches that take a second input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .trunks import unit


class Encoder(nn.Module):
    """Halve the image three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(unit(3, 8, 2), unit(8, 8))
        self.stage2 = nn.Sequential(unit(8, 16, 2), unit(16, 16))
        self.stage3 = nn.Sequential(unit(16, 32, 2), unit(32, 32))

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.stage1(x)
        second = self.stage2(first)
        return [first, second, self.stage3(second)]


class Classifier(nn.Module):
    """Classify what a neck makes of an encoder's last map."""

    def __init__(self, neck: nn.Module, channels: int = 32) -> None:
        super().__init__()
        self.encoder, self.neck, self.fc = Encoder(), neck, nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.neck(self.encoder(x)[-1]).mean((2, 3)))  # type: ignore[no-any-return]


class Decoded(nn.Module):
    """Decode what a neck makes of an encoder's last map, beside the maps before it."""

    def __init__(self, neck: nn.Module, channels: int = 32) -> None:
        super().__init__()
        self.encoder, self.neck = Encoder(), neck
        self.dec2, self.dec1, self.out = unit(channels + 16, 16), unit(16 + 8, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.encoder(x)
        y = self.dec2(torch.cat([enlarged(self.neck(third), second), second], 1))
        return self.out(self.dec1(torch.cat([enlarged(y, first), first], 1)))  # type: ignore[no-any-return]


def enlarged(x: Tensor, other: Tensor) -> Tensor:
    """Make a map as large as another."""
    return F.interpolate(x, size=other.shape[-2:], mode="bilinear", align_corners=False)


class Gated(nn.Module):
    """Gate a map by a sigmoid made at half its resolution, as GhostNet V2 does."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.gate = unit(32, 32), nn.Sequential(unit(32, 48), nn.Conv2d(48, 32, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gate = enlarged(self.gate(F.avg_pool2d(x, 2)), x)
        return self.main(x) * gate  # type: ignore[no-any-return]


class Pooling(nn.Module):
    """Cat a map with what it is when pooled to grids, fixed or of a share of it, as PSPNet does."""

    def __init__(self, *, width: int = 8, fixed: bool = True) -> None:
        super().__init__()
        self.paths, self.fixed = nn.ModuleList(unit(32, width, 1, 1) for _ in range(3)), fixed
        self.out = unit(32 + 3 * width, 32)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [F.adaptive_avg_pool2d(x, n) if self.fixed else F.avg_pool2d(x, x.shape[-1] // n) for n in (1, 2, 4)]
        spread = [enlarged(path(y), x) for path, y in zip(self.paths, pooled, strict=True)]
        return self.out(torch.cat([x, *spread], 1))  # type: ignore[no-any-return]


class Reduced(nn.Module):
    """Attend to a map at half its resolution, or to a grid, as Pyramid Vision Transformers do."""

    def __init__(self, grid: int | None = None) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(32, 32, 2, 2) if grid is None else nn.AdaptiveAvgPool2d(grid)
        self.norm, self.q, self.kv, self.proj = (
            nn.LayerNorm(32),
            nn.Linear(32, 32),
            nn.Linear(32, 64),
            nn.Linear(32, 32),
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        few = self.reduce(tokens.transpose(1, 2).reshape(x.shape)).flatten(2).transpose(1, 2)
        k, v = self.kv(few).chunk(2, -1)
        y = self.proj(F.scaled_dot_product_attention(self.q(tokens), k, v))
        return x + y.transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


class Local(nn.Module):
    """Add a map to what one layer makes of it at half its resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.side = unit(32, 32), unit(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + enlarged(self.side(F.avg_pool2d(x, 2)), x)  # type: ignore[no-any-return]


class Blocks(nn.Module):
    """Pool at the end of each block, with its convolution before."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 8), (8, 16), (16, 24))
        self.blocks = nn.Sequential(*(nn.Sequential(*unit(i, o), nn.MaxPool2d(2)) for i, o in widths))
        self.fc = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(x).mean((2, 3)))  # type: ignore[no-any-return]


Mixing = Callable[[Tensor, Tensor], Tensor]


def added(h: Tensor, e: Tensor) -> Tensor:
    """Add an embedding."""
    return h + e[:, : h.shape[1], None, None]


def spread(h: Tensor, e: Tensor) -> Tensor:
    """Add an embedding that is made as large as the map before."""
    return h + e[:, : h.shape[1], None, None].expand_as(h)


def modulated(h: Tensor, e: Tensor) -> Tensor:
    """Scale and shift by an embedding."""
    scale, shift = e[:, :, None, None].chunk(2, 1)
    return h * (1 + scale) + shift


def gated(h: Tensor, e: Tensor) -> Tensor:
    """Gate by an embedding."""
    return h * e[:, : h.shape[1], None, None].sigmoid()


class Embedded(nn.Module):
    """Take a time embedding inside a residual block, as diffusion models do."""

    def __init__(self, inputs: int, outputs: int, mixing: Mixing) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(2, inputs), nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(2, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.embed, self.mixing = nn.Linear(8, 2 * outputs), mixing
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.mixing(self.conv1(F.silu(self.norm1(x))), self.embed(F.silu(e)))
        return (self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))) / 2**0.5  # type: ignore[no-any-return]


class Diffusion(nn.Module):
    """Predict noise from an image and a time."""

    def __init__(self, mixing: Mixing) -> None:
        super().__init__()
        self.time, self.stem = nn.Linear(1, 8), nn.Conv2d(3, 8, 3, 1, 1)
        self.down1, self.down2 = Embedded(8, 8, mixing), Embedded(8, 16, mixing)
        self.stride, self.mid = nn.Conv2d(16, 16, 3, 2, 1), Embedded(16, 16, mixing)
        self.up, self.out = Embedded(32, 8, mixing), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        e = self.time(time[:, None].float())
        x = self.down2(self.down1(self.stem(x), e), e)
        y = self.mid(self.stride(x), e)
        return self.out(F.silu(self.up(torch.cat([enlarged(y, x), x], 1), e)))  # type: ignore[no-any-return]


class Crossed(nn.Module):
    """Attend from an image's tokens to a text's, with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 3)
        self.q, self.kv, self.proj = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(8, 8)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        k, v = self.kv(text).chunk(2, -1)
        scores = (self.q(tokens) @ k.transpose(1, 2)).masked_fill(mask[:, None] == 0, -1e4)
        tokens = tokens * 0.5 + self.proj(scores.softmax(-1) @ v)
        return self.head(tokens.mean(1))  # type: ignore[no-any-return]


class Inline(nn.Module):
    """Add attention to a map in a forward that does not trace, which reshapes what its last layer gave."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attend, self.fc = nn.Conv2d(3, 8, 4, 4), Reshaped(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.attend(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Reshaped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > float("inf"):  # what a value is decides
            return x
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        y = self.proj(F.scaled_dot_product_attention(q, k, v))
        return x + y.transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


class AttentionPooled(nn.Module):
    """Classify what a query reads off the tokens, without the class token if there is one."""

    def __init__(self, prefix: int = 0) -> None:
        super().__init__()
        self.prefix = nn.Parameter(torch.randn(1, prefix, 8)) if prefix else None
        self.embed, self.norm = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8)
        self.query, self.kv, self.head = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, 16), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        if self.prefix is not None:
            tokens = torch.cat((self.prefix.expand(x.shape[0], -1, -1), tokens), 1)
        tokens = self.norm(tokens)
        k, v = self.kv(tokens if self.prefix is None else tokens[:, self.prefix.shape[1] :]).chunk(2, -1)
        query = self.query.expand(x.shape[0], -1, -1)
        return self.head(F.scaled_dot_product_attention(query, k, v)[:, 0])  # type: ignore[no-any-return]
