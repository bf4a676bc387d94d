"""Gradient checkpointing: less memory for features, and the same bits."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from attn_surgeon import insert
from attn_surgeon.errors import TrainingError
from attn_surgeon.finetune.gradient_checkpointing import checkpointed, repeated

from .helpers import operated


def kept(model: nn.Module, x: Tensor) -> int:
    """Count the numbers that wait for the way back."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):  # type: ignore[func-returns-value]
        model(x)
    return sum(sizes)


def test_gradients_and_running_statistics_are_the_same_bits() -> None:
    plain = operated("cbam", "layer3.*.bn2").train()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.01)  # grafts that do something
    other, x = copy.deepcopy(plain), torch.randn(4, 1, 32, 32)
    plain(x).square().sum().backward()
    with checkpointed(other):
        other(x).square().sum().backward()
    for (name, ours), theirs in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad), name
    for (name, first), second in zip(plain.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(first, second), name


def test_fewer_features_are_kept() -> None:
    model, x = operated().train(), torch.randn(4, 1, 32, 32)
    whole = kept(model, x)
    with checkpointed(model):
        assert kept(model, x) < 0.5 * whole
    assert kept(model, x) == whole


def test_nothing_is_left_behind() -> None:
    model = operated()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    with pytest.raises(KeyError), checkpointed(model):
        raise KeyError
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before


def test_blocks_of_other_networks_are_found() -> None:
    vit = timm.create_model("test_vit", pretrained=False)
    assert repeated(vit) == list(vit.blocks)
    example = torch.randn(1, 3, *vit.default_cfg["input_size"][1:])
    grafted = insert(vit, "se", after="blocks.0", example=example)
    assert len(repeated(grafted)) == len(vit.blocks)
    with pytest.raises(TrainingError, match="no blocks"), checkpointed(nn.Linear(2, 2)):
        pass
