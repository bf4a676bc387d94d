"""Axial attention (Ho et al., 2019, "Axial Attention in Multidimensional Transformers").

r = x + W_r rows(x)             multi-head self-attention among the positions of each row
y = r + W_c columns(r)          and among those of each column, with weights of its own

Two steps reach the whole map, and none holds more than the pairs of one line. There is no norm and no position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.blocks.base.gate import Add
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.self_attention.attend import MultiHead
from attn_surgeon.blocks.self_attention.mhsa import HEADS

CARD = Card(
    name="axial",
    title="Axial Attention",
    paper="Ho et al. 2019, Axial Attention in Multidimensional Transformers",
    idea="multi-head self-attention along rows, then along columns",
    formula="y = r + mhsa_columns(r), r = x + mhsa_rows(x)",
    identity="x + f(x) twice, the last projection of each = 0",
    parameters="8C² + 6C",
    macs="8C²·HW + 2C(H + W)·HW",
    nodes=36,
    usual_sites="any stage; where maps are too large for attention among all positions",
    kind="self-attention",
    reach="map",
    options=(HEADS,),
)


@register(CARD)
class AxialAttention(nn.Module):
    """Add to each position of (N, C, H, W) features what it sees of its row, then of its column.

    Raises ValueError where the heads do not divide the channels.
    """

    def __init__(self, channels: int, *, heads: int | None = None, init: str = "identity") -> None:
        super().__init__()
        self.rows, self.columns = MultiHead(channels, heads), MultiHead(channels, heads)
        self.gate = Add(init, self, "rows.project", "columns.project")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        x = self.gate(x, along_rows(self.rows, x))
        return self.gate(x, along_rows(self.columns, x.transpose(2, 3)).transpose(2, 3))


def along_rows(layer: nn.Module, x: Tensor) -> Tensor:
    """Run a layer on each row of (N, C, H, W) features as a map (C, W, 1) of its own."""
    made: Tensor = layer(x.transpose(1, 2).flatten(0, 1).unsqueeze(3))
    return torch.unflatten(made.squeeze(3), 0, (-1, x.shape[2])).transpose(1, 2)
