"""Attention with other axes than (N, heads, L, E), which are all that the ONNX exporter takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import Tensor
from torch.nn import functional as F

_AXES = 4


@contextmanager
def attention_of_four_axes() -> Iterator[None]:
    """Let `scaled_dot_product_attention` bring its tensors to four axes for a while."""
    attend = F.scaled_dot_product_attention

    def folded(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **more: Any
    ) -> Tensor:
        if query.ndim in (2, _AXES):  # of two axes, none can stand for a batch
            return attend(query, key, value, attn_mask, *args, **more)
        heads = query.ndim > _AXES  # of three axes, none is the heads'
        lead = query.shape[:-3] if heads else query.shape[:1]
        query, key, value = (_four(tensor, heads) for tensor in (query, key, value))
        if attn_mask is not None and attn_mask.ndim > 2:
            attn_mask = _four(attn_mask.expand(*lead, *attn_mask.shape[-3 if heads else -2 :]), heads)
        attended: Tensor = attend(query, key, value, attn_mask, *args, **more)
        return attended.reshape(*lead, *attended.shape[1:]) if heads else attended.squeeze(1)

    with mock.patch.object(F, "scaled_dot_product_attention", folded):
        yield


def _four(tensor: Tensor, heads: bool) -> Tensor:
    """Fold the axes before the heads into one, or put in an axis of one head."""
    return tensor.flatten(0, -_AXES) if heads else tensor.unsqueeze(1)
