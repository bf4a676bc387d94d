"""What the tests of blocks share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from attn_surgeon.blocks import BlockSpec, build_block

NAMES = ["cbam", "channel", "eca", "se", "spatial"]
POOLING = ["channel", "eca", "se"]


def block(name: str, channels: int, init: str = "identity", **options: Any) -> nn.Module:
    return build_block(BlockSpec.read(name, options, init), channels)


@torch.no_grad()
def at_random(module: nn.Module) -> nn.Module:
    """Give parameters and statistics at random."""
    for parameter in module.parameters():
        parameter.normal_()
    for norm in [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return module
