"""Polarized self-attention as its authors' code has it (Liu et al., 2021).

c = W_z (W_v x · softmax_hw(w_q x))                 sequential: W_z is W_2 relu(ln(W_1 ·)), with biases
s = softmax_hw(U_q mean_hw(x) · U_v x)              over positions, after the product

The gate of positions is σ of a number above 0, so the identity is x + γ(f − x) with γ = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.gate import Blend


class PolarizedCode(nn.Module):
    """Weigh the channels and the positions of (N, C, H, W) features, beside each other or one after the other."""

    def __init__(self, channels: int, hidden: int, sequential: bool, init: str) -> None:
        super().__init__()
        self.sequential = sequential
        self.query, self.value = nn.Conv2d(channels, 1, 1, bias=False), nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand = _bottleneck(hidden, channels) if sequential else nn.Conv2d(hidden, channels, 1, bias=False)
        self.position_query, self.position_value = (nn.Conv2d(channels, hidden, 1, bias=False) for _ in range(2))
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        by_channel = x * torch.sigmoid(self._of_channels(x)).to(x.dtype)
        given = by_channel if self.sequential else x
        by_position = given * torch.sigmoid(self._of_positions(given)).to(x.dtype)
        return self.outer(x, by_position if self.sequential else by_position + by_channel)

    def _of_channels(self, x: Tensor) -> Tensor:
        shares = self.query(x).flatten(2).softmax(2).to(x.dtype)
        made: Tensor = self.expand((self.value(x).flatten(2) @ shares.transpose(1, 2)).unsqueeze(3))
        return made

    def _of_positions(self, x: Tensor) -> Tensor:
        query = self.position_query(x).mean((2, 3)).unsqueeze(1)
        logits = query @ self.position_value(x).flatten(2)
        return torch.unflatten(logits.softmax(2), 2, x.shape[2:])


def _bottleneck(hidden: int, channels: int, ratio: int = 4) -> nn.Sequential:
    narrow = max(1, hidden // ratio)
    norm = nn.LayerNorm((narrow, 1, 1))
    return nn.Sequential(nn.Conv2d(hidden, narrow, 1), norm, nn.ReLU(), nn.Conv2d(narrow, channels, 1))
