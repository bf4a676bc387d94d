"""The options of common blocks, against plain modules as articles and repositories print them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks import get_card, is_identity
from attn_surgeon.blocks.base.registry import get_factory

from .helpers import at_random, bits, block, still

ACTIVATIONS: dict[str, Any] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "silu": lambda z: z / (1 + torch.exp(-z)),
    "gelu": lambda z: z / 2 * (1 + torch.erf(z / 2**0.5)),
    "mish": lambda z: z * torch.tanh(F.softplus(z)),
    "hardswish": lambda z: z * F.relu6(z + 3) / 6,
}
GATES: dict[str, Any] = {"sigmoid": lambda z: 1 / (1 + torch.exp(-z)), "hardsigmoid": lambda z: F.relu6(z + 3) / 6}
SWITCHES: dict[str, dict[str, tuple[Any, ...]]] = {
    "se": {"bias": (True, False), "least": (1, 2)},
    "channel": {"bias": (True, False), "least": (1, 2)},
    "spatial": {"norm": (True, False), "kernel_size": (3, 7)},
    "cbam": {"bias": (True, False), "norm": (True, False)},
    "coord": {"bias": (True, False), "norm": (True, False), "least": (1, 8)},
}


def combinations(name: str) -> list[dict[str, Any]]:
    names = {option.name for option in get_card(name).options}
    switches: dict[str, tuple[Any, ...]] = {**SWITCHES[name], "gate": tuple(GATES)}
    if "activation" in names:
        switches["activation"] = tuple(ACTIVATIONS)
    every = [dict(zip(switches, values, strict=True)) for values in product(*switches.values())]
    return every + ([{"norm": False, "bias": True}] if name == "spatial" else [])


def layer(x: Tensor, w: Mapping[str, Tensor], name: str, padding: int = 0) -> Tensor:
    weight = w[f"{name}.weight"]
    weight = weight if weight.ndim == 4 else weight[:, :, None, None]
    return F.conv2d(x, weight, w.get(f"{name}.bias"), padding=padding)


def norm(z: Tensor, w: Mapping[str, Tensor], name: str, training: bool) -> Tensor:
    if f"{name}.weight" not in w:
        return z
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    if training:
        mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)
    normal = (z - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
    return w[f"{name}.weight"][:, None, None] * normal + w[f"{name}.bias"][:, None, None]


def plain(name: str, x: Tensor, w: Mapping[str, Tensor], options: Mapping[str, Any], training: bool) -> Any:
    """Compute the published form of a block."""
    gate = GATES[options["gate"]] if "gate" in options else GATES["sigmoid"]
    if name == "cbam":
        for part in ("channel", "spatial"):
            own = {key.removeprefix(f"{part}."): value for key, value in w.items() if key.startswith(part)}
            x = plain(part, x, own, options, training)
        return x
    if name == "spatial":
        both = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return x * gate(norm(layer(both, w, "conv", w["conv.weight"].shape[3] // 2), w, "bn", training))
    activation = ACTIVATIONS[options["activation"]]
    if name == "coord":
        lines = torch.cat((x.mean(3), x.mean(2)), 2)[..., None]
        hidden = activation(norm(layer(lines, w, "squeeze"), w, "bn", training))
        rows, columns = hidden[:, :, : x.shape[2]], hidden[:, :, x.shape[2] :]
        return x * gate(layer(rows, w, "conv_h")) * gate(layer(columns, w, "conv_w")).transpose(2, 3)
    first, last, pooled = ("fc1", "fc2", ["mean"]) if name == "se" else ("mlp.0", "mlp.2", ["mean", "amax"])
    each = [layer(activation(layer(getattr(x, how)((2, 3), keepdim=True), w, first)), w, last) for how in pooled]
    return x * gate(sum(each))


@torch.no_grad()
@pytest.mark.parametrize("name", SWITCHES)
def test_every_combination_of_options_is_its_plain_form(name: str) -> None:
    for options, training in product(combinations(name), (True, False)):
        module = at_random(get_factory(name)(24, **options, init="paper")).double().train(training)
        weights = {key: value.clone() for key, value in module.state_dict().items()}
        x = torch.randn(3, 24, 6, 5, dtype=torch.float64)
        torch.testing.assert_close(module(x), plain(name, x, weights, options, training), rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("name", SWITCHES)
def test_every_combination_starts_as_the_identity(name: str) -> None:
    for options, dtype in product(combinations(name), (torch.float32, torch.float16, torch.bfloat16)):
        module, x = block(name, 24, **options).to(dtype), (9 * torch.randn(2, 24, 6, 5)).to(dtype)
        assert is_identity(module)
        for training in (True, False):
            assert torch.equal(bits(module.train(training)(x)), bits(x)), options


@pytest.mark.parametrize("name", SWITCHES)
def test_every_combination_learns(name: str) -> None:
    for options, training in product(combinations(name), (True, False)):
        x = torch.rand(4, 24, 6, 5)  # a single hidden unit is on for features that follow a ReLU
        assert still(block(name, 24, **options).train(training), x) == set(), options


def test_a_bias_before_a_norm_is_no_option() -> None:
    with pytest.raises(ValueError, match="the norm would cancel the convolution's bias"):
        block("spatial", 16, bias=True)


class SELayer(nn.Module):
    """As printed most often."""

    def __init__(self, channel: int, reduction: int = 16) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channel, channel // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channel // reduction, channel, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.fc(self.avg_pool(x).view(b, c)).view(b, c, 1, 1)
        gated: Tensor = x * y.expand_as(x)
        return gated


class PrintedSpatialAttention(nn.Module):
    """CBAM's, without a norm and with the mean first."""

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=3 if kernel_size == 7 else 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        avg_out, (max_out, _) = torch.mean(x, dim=1, keepdim=True), torch.max(x, dim=1, keepdim=True)
        return x * torch.sigmoid(self.conv1(torch.cat([avg_out, max_out], dim=1)))


class CABlock(nn.Module):
    """Coordinate attention with ReLU and without biases."""

    def __init__(self, channel: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv_1x1 = nn.Conv2d(channel, channel // reduction, 1, bias=False)
        self.bn = nn.BatchNorm2d(channel // reduction)
        self.F_h = nn.Conv2d(channel // reduction, channel, 1, bias=False)
        self.F_w = nn.Conv2d(channel // reduction, channel, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = x.shape[2]
        x_h = torch.mean(x, dim=3, keepdim=True).permute(0, 1, 3, 2)
        x_w = torch.mean(x, dim=2, keepdim=True)
        both = torch.relu(self.bn(self.conv_1x1(torch.cat((x_h, x_w), 3))))
        of_h, of_w = both[..., :h], both[..., h:]
        s_h, s_w = torch.sigmoid(self.F_h(of_h.permute(0, 1, 3, 2))), torch.sigmoid(self.F_w(of_w))
        return x * s_h.expand_as(x) * s_w.expand_as(x)


PRINTED: list[tuple[Any, str, dict[str, Any], dict[str, str]]] = [
    (SELayer, "se", {"bias": False, "least": 1}, {"fc1": "fc.0", "fc2": "fc.2"}),
    (
        CABlock,
        "coord",
        {"reduction": 16, "least": 1, "bias": False, "activation": "relu"},
        {"squeeze": "conv_1x1", "bn": "bn", "conv_h": "F_h", "conv_w": "F_w"},
    ),
]


@torch.no_grad()
@pytest.mark.parametrize(("printed", "name", "options", "renamed"), PRINTED)
@pytest.mark.parametrize("channels", [16, 24, 64])
def test_weights_of_printed_blocks_fit(
    printed: Any, name: str, options: dict[str, Any], renamed: dict[str, str], channels: int
) -> None:
    other = at_random(printed(channels)).double()
    module = get_factory(name)(channels, **options, init="paper").double()
    own, given = module.state_dict(), other.state_dict()
    for key, value in own.items():
        layer_name, _, parameter = key.partition(".")
        own[key] = given[f"{renamed[layer_name]}.{parameter}"].reshape(value.shape)
    module.load_state_dict(own)
    same(module, other, channels)


@torch.no_grad()
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_weights_of_the_printed_spatial_attention_fit_with_their_channels_swapped(kernel_size: int) -> None:
    other = at_random(PrintedSpatialAttention(kernel_size)).double()
    module = get_factory("spatial")(16, kernel_size=kernel_size, norm=False, init="paper").double()
    module.load_state_dict({"conv.weight": other.get_parameter("conv1.weight").flip(1)})
    same(module, other, 16)


def same(module: nn.Module, other: nn.Module, channels: int) -> None:
    x = torch.randn(3, channels, 7, 5, dtype=torch.float64)
    for training in (True, False):
        torch.testing.assert_close(module.train(training)(x), other.train(training)(x), rtol=1e-12, atol=1e-12)
