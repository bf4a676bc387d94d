"""The pairs of hidden units, and which layer is zeroed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attn_surgeon.blocks.base.gate import Multiply, hard_sigmoid
from attn_surgeon.blocks.base.initialisation import start_hidden

from .helpers import block


@pytest.mark.parametrize("layer", [nn.Linear(10, 6), nn.Conv2d(10, 6, 1)])
def test_hidden_units_come_in_opposite_pairs(layer: nn.Linear | nn.Conv2d) -> None:
    first = layer.weight.detach()[:3].clone()
    start_hidden("identity", layer)
    assert torch.equal(layer.weight[:3], first)
    assert torch.equal(layer.weight[3:], -layer.weight[:3])
    assert layer.bias is not None
    assert torch.equal(layer.bias[3:], -layer.bias[:3])


def test_exactly_one_unit_of_each_pair_is_on() -> None:
    layer = nn.Linear(10, 6)
    start_hidden("identity", layer)
    hidden = layer(torch.randn(50, 10))
    assert bool(((hidden[:, :3] > 0) ^ (hidden[:, 3:] > 0)).all())


@pytest.mark.parametrize("width", [1, 5])
def test_unit_without_a_partner_is_on_for_positive_features(width: int) -> None:
    layer = nn.Linear(10, width)
    start_hidden("identity", layer)
    assert bool((layer.weight[-1] > 0).all())
    assert bool((layer(torch.rand(50, 10))[:, -1] > 0).all())


def test_published_start_is_left_alone() -> None:
    layer = nn.Linear(10, 6)
    before = layer.weight.detach().clone()
    start_hidden("paper", layer)
    assert Multiply("paper", nn.Sequential(layer), "0").factor == 1.0
    assert torch.equal(layer.weight, before)


def test_a_layer_without_biases_comes_in_pairs_too() -> None:
    layer = nn.Conv2d(10, 6, 1, bias=False)
    start_hidden("identity", layer)
    assert torch.equal(layer.weight[3:], -layer.weight[:3])


ZEROED = {
    "se": {"fc2.weight", "fc2.bias"},
    "eca": {"conv.weight"},
    "channel": {"mlp.2.weight", "mlp.2.bias"},
    "spatial": {"bn.weight"},
    "cbam": {"channel.mlp.2.weight", "channel.mlp.2.bias", "spatial.bn.weight"},
    "coord": {"conv_h.weight", "conv_h.bias", "conv_w.weight", "conv_w.bias"},
    "gate": {"block.bn.weight"},
    "mdaf": {"block.outer.gamma"},
    "bam": {"channel.fc2.weight", "channel.fc2.bias", "spatial.last.weight", "spatial.last.bias"},
    "bam-spatial": {"spatial.last.weight", "spatial.last.bias"},
    "coord-simple": {"conv_h.weight", "conv_h.bias", "conv_w.weight", "conv_w.bias"},
    "strip": {"last.weight", "last.bias"},
    "ela": {"norm_h.weight", "norm_w.weight"},
    "lka": {"mix.weight"},
    "lsk": {"mix.weight", "choose.weight", "choose.bias"},
    "triplet": {"cw.bn.weight", "hc.bn.weight", "hw.bn.weight"},
    "scse": {"fc2.weight", "fc2.bias", "point.weight", "point.bias"},
    "shuffle": {"outer.gamma"},
    "ema": {"norm.weight", "conv3.weight", "conv3.bias"},
    "psa-p": {"channel.norm.weight", "position.value.weight"},
    "psa-s": {"channel.norm.weight", "position.value.weight"},
    "gam": {"fc2.weight", "fc2.bias", "bn2.weight"},
    "mlca": {"local.weight", "whole.weight"},
    "cpca": {"channel.mlp.2.weight", "channel.mlp.2.bias", "mix.weight"},
    "parnet": {"outer.gamma"},
    "bam-channel": {"outer.gamma"},
    "ese": {"fc.weight", "fc.bias"},
    "fca": {"fc2.weight"},
    "ge": {"gather.7.weight"},
    "gct-gauss": {"outer.gamma"},
    "lct": {"norm.bias"},
    "nam": {"outer.gamma"},
    "sge": {"norm.bias"},
    "simam": {"outer.gamma"},
    "srm": {"bn.weight"},
    "aff": {"block.context.near.last.weight", "block.context.whole.last.weight"},
    "iaff": {"block.second.near.last.weight", "block.second.whole.last.weight"},
    "sk": {"block.choose.weight"},
    "cross": {"block.project.weight", "block.project.bias"},
    "soft": {"weigh.weight", "weigh.bias"},
    "hard": {"outer.gamma"},
    "bat": {"outer.gamma"},
    "cot": {"outer.gamma"},
    "lambda": {"outer.gamma"},
    **{name: {"project.weight", "project.bias"} for name in ("window", "halo", "outlook", "focal")},
}


@pytest.mark.parametrize("name", ZEROED)
def test_only_the_last_layer_is_zero(name: str) -> None:
    assert zeros(block(name, 64)) - zeros(block(name, 64, "paper")) == ZEROED[name]  # any norm's bias is 0 in both


def zeros(module: nn.Module) -> set[str]:
    return {key for key, parameter in module.named_parameters() if not parameter.any()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_hard_sigmoid_is_exactly_one_half_at_zero(dtype: torch.dtype) -> None:
    assert bool((2.0 * hard_sigmoid(torch.zeros(67, dtype=dtype)) == 1).all())
    expected = torch.tensor([0.0, 0.0, 0.25, 0.5, 1.0, 1.0])
    assert torch.equal(hard_sigmoid(torch.tensor([-9.0, -3.0, -1.5, 0.0, 3.0, 9.0])), expected)


def test_gate_has_the_features_precision() -> None:
    x, z = torch.randn(2, 3, 4, 4).bfloat16(), torch.randn(2, 3, 1, 1)
    gated = Multiply("identity", nn.Sequential(nn.Linear(1, 1)), "0")(x, z)
    assert gated.dtype == torch.bfloat16
    assert torch.equal(gated, x * (2 / (1 + torch.exp(-z))).bfloat16())
