"""Multi-head attention with position embeddings (Srinivas et al., 2021, "Bottleneck Transformers").

a_ij = q_i · (k_j + r^h[row_j − row_i] + r^w[column_j − column_i]) / √d        in each head, r shared by the heads

The tables r hold the offsets of a square window and are interpolated to those of a map of another size.

Absolute positions are a_ij = q_i · k_j + r_i · q_j, r_i the sum of the tables' entries for the row and the column of i.

No bias for each pair is made. q_i · r is taken for each row and each column of the map and joined to q_i; k_j is
joined with a 1 for its row and its column and 0 elsewhere, so that the plain product of both is a_ij. Query, key and
value are then d + H + W wide instead of d.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Option
from attn_surgeon.blocks.self_attention.attend import MultiHead, attend, positions, tokens

WINDOW = Option("window", 14, "side of the map whose offsets the tables of relative positions hold", minimum=2)


class RelativeHeads(MultiHead):
    """Multi-head attention among the positions of a map with an embedding of each offset."""

    def __init__(self, channels: int, heads: int | None, window: int, **options: bool) -> None:
        super().__init__(channels, heads, **options)
        width = channels // self.heads
        self.of_rows = nn.Parameter(width**-0.5 * torch.randn(2 * window - 1, width))
        self.of_columns = nn.Parameter(width**-0.5 * torch.randn(2 * window - 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected attention output, of the same shape."""
        query, key, value = (tokens(each(x), self.heads) for each in (self.query, self.key, self.value))
        height, width = x.shape[2:]
        grid = torch.unflatten(query, 2, (height, width))
        by_row = torch.einsum("nhijd,iad->nhija", grid, relative(self.of_rows, height)).flatten(2, 3)
        by_column = torch.einsum("nhijd,jad->nhija", grid, relative(self.of_columns, width)).flatten(2, 3)
        made = F.scaled_dot_product_attention(
            torch.cat((query, by_row, by_column), 3),
            torch.cat((key, place(key, height, width)), 3),
            F.pad(value, (0, height + width)),
            scale=self.scale,
        )
        seen: Tensor = self.project(positions(made[..., : query.shape[3]], x))
        return seen


class AbsoluteHeads(MultiHead):
    """Multi-head attention among the positions of a map with an embedding of each position."""

    def __init__(self, channels: int, heads: int | None, window: int, **options: bool) -> None:
        super().__init__(channels, heads, **options)
        self.of_rows, self.of_columns = (
            nn.Parameter(torch.randn(self.heads, window, channels // self.heads)) for _ in range(2)
        )

    def attend(self, x: Tensor) -> Tensor:
        """Return the heads' outputs (N, heads, H · W, C / heads)."""
        query, key, value = (tokens(each(x), self.heads) for each in (self.query, self.key, self.value))
        rows, columns = absolute(self.of_rows, x.shape[2]), absolute(self.of_columns, x.shape[3])
        places = (rows.unsqueeze(2) + columns.unsqueeze(1)).flatten(1, 2).expand(len(x), -1, -1, -1)
        return attend(torch.cat((query, places), 3), torch.cat((key, query), 3), value, self.scale)


def absolute(table: Tensor, size: int) -> Tensor:
    """Return a table of places (heads, s, d) interpolated: (heads, size, d)."""
    entries = torch.arange(table.shape[1], device=table.device, dtype=table.dtype)
    places = torch.arange(size, device=table.device, dtype=table.dtype) * ((table.shape[1] - 1) / max(size - 1, 1))
    return (1 - (places[:, None] - entries).abs()).clamp(min=0) @ table


def relative(table: Tensor, size: int) -> Tensor:
    """Return a table of 2s − 1 offsets interpolated: (size, size, d), for each place the offset of each other."""
    reach = len(table) // 2
    places = torch.arange(size, device=table.device, dtype=table.dtype)
    offsets = (places - places[:, None]) * (reach / max(size - 1, 1)) + reach
    entries = torch.arange(len(table), device=table.device, dtype=table.dtype)
    return (1 - (offsets[..., None] - entries).abs()).clamp(min=0) @ table


def place(key: Tensor, height: int, width: int) -> Tensor:
    """Return marks of the row and the column of each key: (N, heads, H · W, H + W), 1 for its own and 0 for others."""
    rows, columns = torch.arange(height, device=key.device), torch.arange(width, device=key.device)
    of_rows = (rows[:, None, None] == rows).expand(-1, width, -1)
    of_columns = (columns[:, None] == columns).expand(height, -1, -1)
    marks = torch.cat((of_rows, of_columns), 2).flatten(0, 1)
    return marks.to(key.dtype).expand(*key.shape[:2], -1, -1)
