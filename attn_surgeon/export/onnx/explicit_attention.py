"""Decompose `scaled_dot_product_attention` into its formula for the ONNX exporter.

    softmax(scale · Q Kᵀ + mask) V

The exporter's own decomposition takes only shapes (N, heads, L, E), and transposes the keys through a reshape to three
axes whose sizes are computed in the file: fourteen nodes where the formula needs five.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F


@contextmanager
def explicit_attention() -> Iterator[None]:
    """Replace `torch.nn.functional.scaled_dot_product_attention` by its formula until the context ends."""
    with mock.patch.object(F, "scaled_dot_product_attention", attention):
        yield


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return attention on (…, L, E), with the arguments and the result of `scaled_dot_product_attention`."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if attn_mask is None:
        weights = scores.softmax(-1)
    elif attn_mask.dtype != torch.bool:
        weights = (scores + attn_mask).softmax(-1)
    else:  # torch returns zeros, not NaN, for a query whose keys are all masked
        weights = scores.masked_fill(~attn_mask, -torch.inf).softmax(-1)
        weights = weights.masked_fill(~attn_mask.any(-1, keepdim=True), 0.0)
    return F.dropout(weights, dropout_p) @ value
