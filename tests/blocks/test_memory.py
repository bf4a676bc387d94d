"""Attention over positions needs no square of them in memory."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from attn_surgeon.blocks import get_card
from attn_surgeon.measure.peak_memory import peak_memory
from tests.turns import in_turns

from .helpers import NAMES, block

CPU = torch.device("cpu")
LIMIT = 1.5
# linear in positions too, but with more maps held at one time
LIMITS = {
    "aft-conv": 1.8,  # the window's exponentials, and their products with the values
    "axial": 1.8,  # rows, then columns, each with its own query, key and value
    "crisscross": 1.8,  # a row and a column of weights at each position
    "botnet": 7.0,  # query and key are H + W wider, in place of a bias of (HW)²
}
KINDS = [name for name in NAMES if get_card(name).kind == "self-attention"]


@torch.no_grad()
@pytest.mark.parametrize("name", in_turns(KINDS, 2))
def test_peak_at_64_by_64(name: str) -> None:
    q, k, v = torch.randn(3, 1, 1, 64 * 64, 256)
    plain = 3 * q.nbytes + peak_memory(lambda: F.scaled_dot_product_attention(q, k, v), CPU)
    module, x = block(name, 256).eval(), torch.randn(1, 256, 64, 64)
    assert x.nbytes + peak_memory(lambda: module(x), CPU) < LIMITS.get(name, LIMIT) * plain
