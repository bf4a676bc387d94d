"""Positions as tokens, and attention among them that never holds all pairs at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.exporting import exporting_onnx
from attn_surgeon.blocks.base.widths import divisor


def tokens(x: Tensor, heads: int = 1) -> Tensor:
    """Return (N, C, H, W) as (N, heads, H · W, C / heads), each token contiguous in memory."""
    flat = x.flatten(2).transpose(1, 2).contiguous()  # the memory-efficient kernels take no others
    return torch.unflatten(flat, 2, (heads, -1)).transpose(1, 2)


def positions(made: Tensor, like: Tensor) -> Tensor:
    """Return (N, heads, H · W, d) as a map (N, heads · d, H, W) of the height and width of another."""
    return torch.unflatten(made.transpose(1, 2).flatten(2).transpose(1, 2), 2, like.shape[2:])


def share(x: Tensor) -> Tensor:
    """Return the softmax of (N, C, H, W) over the positions of each channel."""
    return x.flatten(2).softmax(2).reshape(x.shape)


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Return softmax(scale · query keyᵀ) value for (N, heads, L, d), the value of any width.

    The kernels that do not hold all pairs take one width for all three. A wider value is split into shares, each
    attended to like a head of its own, and what is narrower is filled up with zeros; GPUs want multiples of eight.
    """
    wanted, width = value.shape[3], -(-query.shape[3] // 8) * 8
    shares = -(-wanted // width)
    if exporting_onnx() or (shares == 1 and wanted == query.shape[3]):
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    made = F.scaled_dot_product_attention(
        _repeated(_widened(query, width), shares),
        _repeated(_widened(key, width), shares),
        torch.unflatten(_widened(value, shares * width), 3, (shares, width)).movedim(3, 2).flatten(1, 2),
        scale=scale,
    )
    return torch.unflatten(made, 1, (-1, shares)).movedim(2, 3).flatten(3)[..., :wanted]


def _widened(each: Tensor, width: int) -> Tensor:
    missing = width - each.shape[3]
    return F.pad(each, (0, missing)) if missing else each


def _repeated(each: Tensor, times: int) -> Tensor:
    """Return every head repeated, without a copy where it is once."""
    return each.unsqueeze(2).expand(-1, -1, times, -1, -1).flatten(1, 2)


class MultiHead(nn.Module):
    """Multi-head attention among all positions of (N, C, H, W) features, up to the last projection.

    The key has no bias: a softmax over keys cancels it, so it could not learn.
    """

    def __init__(
        self, channels: int, heads: int | None, *, bias: bool = True, scaled: bool = True, project: bool = True
    ) -> None:
        super().__init__()
        self.heads = divisor(channels, heads, max(1, channels // 32), "heads")
        self.scale = (channels // self.heads) ** -0.5 if scaled else 1.0
        self.query = nn.Conv2d(channels, channels, 1, bias=bias)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=bias)
        self.project = nn.Conv2d(channels, channels, 1) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected attention output, of the same shape."""
        made: Tensor = self.project(positions(self.attend(x), x))
        return made

    def attend(self, x: Tensor) -> Tensor:
        """Return the heads' outputs (N, heads, H · W, C / heads)."""
        query, key, value = (tokens(each(x), self.heads) for each in (self.query, self.key, self.value))
        return attend(query, key, value, self.scale)
