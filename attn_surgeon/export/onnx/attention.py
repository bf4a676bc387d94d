"""Attention written out, for the ONNX exporter.

    softmax(scale · Q Kᵀ + mask) V

The exporter's own translation of `scaled_dot_product_attention` takes axes (N, heads, L, E) only, and transposes the
keys by way of three axes, whose sizes it computes in the file: fourteen nodes where the formula has five.
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
    """Replace `torch.nn.functional.scaled_dot_product_attention` by its formula for a while."""
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
    """Compute what `scaled_dot_product_attention` computes, with its arguments, on (…, L, E)."""
    if enable_gqa:
        key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if attn_mask is None:
        weights = scores.softmax(-1)
    elif attn_mask.dtype != torch.bool:
        weights = (scores + attn_mask).softmax(-1)
    else:  # a query that attends to nothing gets zeros
        weights = scores.masked_fill(~attn_mask, -torch.inf).softmax(-1)
        weights = weights.masked_fill(~attn_mask.any(-1, keepdim=True), 0.0)
    return F.dropout(weights, dropout_p) @ value
