"""Attention over positions needs no square of them in memory."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from attn_surgeon.blocks import get_card
from attn_surgeon.report.memory import peak_memory

from .helpers import NAMES, block

CPU = torch.device("cpu")
KINDS = [name for name in NAMES if get_card(name).kind == "self-attention"]


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_peak_at_64_by_64(name: str) -> None:
    tokens, x = torch.randn(1, 1, 64 * 64, 256), torch.randn(1, 256, 64, 64)
    q, k, v = (torch.empty_like(tokens) for _ in range(3))
    plain = 3 * tokens.nbytes + peak_memory(lambda: F.scaled_dot_product_attention(q, k, v), CPU)
    module = block(name, 256).eval()
    assert peak_memory(lambda: module(x), CPU) < 1.5 * plain
