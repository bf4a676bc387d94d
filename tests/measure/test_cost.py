"""Costs of blocks and grafts against counts by hand."""

from __future__ import annotations

import torch
from torch import nn

from attn_surgeon import insert
from attn_surgeon.blocks import BlockSpec, build_block
from attn_surgeon.measure.cost import Cost, block_cost, graft_costs, macs, parameters
from tests.toy_networks import SharedHead


def test_a_convolution_is_counted_by_hand() -> None:
    layer = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False).eval()
    assert parameters(layer) == 5 * 3 * 9
    assert macs(lambda: layer(torch.zeros(2, 3, 8, 8))) == 2 * 5 * 4 * 4 * 3 * 9


def test_a_blocks_cost_is_that_of_its_formula() -> None:
    block = build_block(BlockSpec("se", {"reduction": 4}), 32)
    assert block_cost(block, (1, 32, 7, 5)) == Cost(2 * 32 * 8 + 8 + 32, 2 * 32 * 8)
    spatial = build_block(BlockSpec("spatial", {"kernel_size": 3}), 32)
    assert block_cost(spatial, (1, 32, 7, 5)) == Cost(2 * 9 + 2, 2 * 9 * 35)


def test_a_graft_that_runs_three_times_costs_three_times() -> None:
    x = torch.randn(1, 4, 8, 8)
    model = insert(SharedHead().eval(), "spatial", after="head", example=x, options={"kernel_size": 3})
    assert graft_costs(model, x) == {"head.attn_surgeon.after": Cost(2 * 9 + 2, 2 * 9 * (64 + 16 + 4))}


def test_counting_leaves_no_hook_behind() -> None:
    x = torch.randn(1, 4, 8, 8)
    model = insert(SharedHead().eval(), "eca", after="head", example=x)
    graft_costs(model, x)
    assert all(not module._forward_pre_hooks for module in model.modules())
