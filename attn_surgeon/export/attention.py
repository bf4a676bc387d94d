"""Attention with more axes than (N, heads, L, E), of which the ONNX exporter takes no more."""

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
    """Let `scaled_dot_product_attention` fold the axes before the heads into one for a while."""
    attend = F.scaled_dot_product_attention

    def folded(query: Tensor, key: Tensor, value: Tensor, *args: Any, **more: Any) -> Tensor:
        masked = any(isinstance(given, Tensor) for given in (*args, *more.values()))
        if query.ndim <= _AXES or masked:
            return attend(query, key, value, *args, **more)
        lead = query.shape[:-3]
        query, key, value = (tensor.flatten(0, len(lead) - 1) for tensor in (query, key, value))
        attended: Tensor = attend(query, key, value, *args, **more)
        return attended.reshape(*lead, *attended.shape[1:])

    with mock.patch.object(F, "scaled_dot_product_attention", folded):
        yield
