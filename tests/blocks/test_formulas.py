"""Blocks against their papers' formulas, written a second time in float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from .helpers import Array, at_random, batch_norm, block, sigmoid, weights

BRANCHES = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3  # the residual branches of ResNet-50


def features(channels: int) -> tuple[torch.Tensor, Array]:
    x = torch.randn(3, channels, 7, 5, dtype=torch.float64)
    return x, x.numpy()


def se(x: Array, w: dict[str, Array]) -> Array:
    hidden = np.maximum(x.mean((2, 3)) @ w["fc1.weight"][:, :, 0, 0].T + w["fc1.bias"], 0)
    return x * sigmoid(hidden @ w["fc2.weight"][:, :, 0, 0].T + w["fc2.bias"])[:, :, None, None]


def eca(x: Array, w: dict[str, Array]) -> Array:
    kernel = w["conv.weight"][0, 0]
    reach = len(kernel) // 2
    means = np.pad(x.mean((2, 3)), ((0, 0), (reach, reach)))
    z = np.stack([(means[:, c : c + len(kernel)] * kernel).sum(1) for c in range(x.shape[1])], 1)
    return x * sigmoid(z)[:, :, None, None]


def channel(x: Array, w: dict[str, Array], prefix: str = "") -> Array:
    def mlp(pooled: Array) -> Array:
        hidden = np.maximum(pooled @ w[f"{prefix}mlp.0.weight"].T + w[f"{prefix}mlp.0.bias"], 0)
        z: Array = hidden @ w[f"{prefix}mlp.2.weight"].T + w[f"{prefix}mlp.2.bias"]
        return z

    return x * sigmoid(mlp(x.mean((2, 3))) + mlp(x.max((2, 3))))[:, :, None, None]


def spatial(x: Array, w: dict[str, Array], prefix: str = "") -> Array:
    kernel = w[f"{prefix}conv.weight"][0]
    side = kernel.shape[-1]
    pooled = np.stack((x.max(1), x.mean(1)), 1)
    padded = np.pad(pooled, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    z = np.zeros((len(x), *x.shape[2:]))
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            window = padded[:, :, row : row + side, column : column + side]
            z[:, row, column] = (window * kernel).sum((1, 2, 3))
    return x * sigmoid(batch_norm(z[:, None], w, f"{prefix}bn"))


def cbam(x: Array, w: dict[str, Array]) -> Array:
    return spatial(channel(x, w, "channel."), w, "spatial.")


def coord(x: Array, w: dict[str, Array]) -> Array:
    def shared(mean: Array) -> Array:
        a = batch_norm(w["squeeze.weight"][:, :, 0, 0] @ mean[..., None], w, "bn")
        return a * np.clip(a + 3, 0, 6) / 6

    def gate(mean: Array, name: str) -> Array:
        return sigmoid(w[f"{name}.weight"][:, :, 0, 0] @ shared(mean) + w[f"{name}.bias"][:, None])[..., 0]

    y = np.empty_like(x)
    for row in range(x.shape[2]):
        y[:, :, row] = x[:, :, row] * gate(x[:, :, row].mean(2), "conv_h")[:, :, None]
    for column in range(x.shape[3]):
        y[:, :, :, column] *= gate(x[:, :, :, column].mean(2), "conv_w")[:, :, None]
    return y


FORMULAS = {"se": se, "eca": eca, "channel": channel, "spatial": spatial, "cbam": cbam, "coord": coord}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("channels", [32, 48, 67])
@pytest.mark.parametrize(("init", "factor"), [("paper", 1), ("identity", 2)])
def test_formula(name: str, channels: int, init: str, factor: int) -> None:
    module = at_random(block(name, channels, init)).double().eval()
    x, array = features(channels)
    with torch.no_grad():
        got = module(x).numpy()
    if name == "cbam" and factor == 2:
        own = weights(module)
        expected = 2 * spatial(2 * channel(array, own, "channel."), own, "spatial.")
    else:
        gates = 2 if name == "coord" else 1
        expected = factor**gates * FORMULAS[name](array, weights(module))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_given_kernel(size: int) -> None:
    for name in ("eca", "spatial"):
        module = at_random(block(name, 16, "paper", kernel_size=size)).double().eval()
        assert module.get_parameter("conv.weight").shape[-1] == size
        x, array = features(16)
        with torch.no_grad():
            np.testing.assert_allclose(module(x).numpy(), FORMULAS[name](array, weights(module)), rtol=1e-6)


def shapes(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(parameter.shape)) for name, parameter in module.named_parameters()]


MLP = [("mlp.0.weight", (4, 64)), ("mlp.0.bias", (4,)), ("mlp.2.weight", (64, 4)), ("mlp.2.bias", (64,))]
CONV = [("conv.weight", (1, 2, 7, 7)), ("bn.weight", (1,)), ("bn.bias", (1,))]
PARAMETERS = {
    "se": [("fc1.weight", (4, 64, 1, 1)), ("fc1.bias", (4,)), ("fc2.weight", (64, 4, 1, 1)), ("fc2.bias", (64,))],
    "eca": [("conv.weight", (1, 1, 3))],
    "coord": [
        *[("squeeze.weight", (8, 64, 1, 1)), ("bn.weight", (8,)), ("bn.bias", (8,))],
        *[("conv_h.weight", (64, 8, 1, 1)), ("conv_h.bias", (64,))],
        *[("conv_w.weight", (64, 8, 1, 1)), ("conv_w.bias", (64,))],
    ],
    "channel": MLP,
    "spatial": CONV,
    "cbam": [(f"channel.{name}", shape) for name, shape in MLP] + [(f"spatial.{name}", shape) for name, shape in CONV],
}


@pytest.mark.parametrize("init", ["paper", "identity"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str, init: str) -> None:
    assert shapes(block(name, 64, init)) == PARAMETERS[name]


def count(module: nn.Module, suffix: str = "") -> int:
    return sum(parameter.numel() for name, parameter in module.named_parameters() if name.endswith(suffix))


def test_se_in_resnet50() -> None:
    with torch.device("meta"):
        modules = [block("se", channels, "paper") for channels in BRANCHES]
    assert sum(count(module, "weight") for module in modules) == 2_514_944
    assert sum(count(module, "bias") for module in modules) == sum(c + c // 16 for c in BRANCHES)


# t = ⌊(log2 C + 1) / 2⌋: C = 64: 3.5 → 3; 128: 4 → 5; 256: 4.5 → 4 → 5; 512: 5; 1024: 5.5 → 5; 2048: 6 → 7
@pytest.mark.parametrize(
    ("channels", "kernel"), [(1, 1), (8, 3), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_eca_kernel(channels: int, kernel: int) -> None:
    assert shapes(block("eca", channels, "paper")) == [("conv.weight", (1, 1, kernel))]


def test_eca_in_resnet50_adds_next_to_nothing() -> None:
    assert sum(count(block("eca", channels, "paper")) for channels in BRANCHES) == 3 * 5 + 4 * 5 + 6 * 5 + 3 * 7 < 100


@pytest.mark.parametrize(("gamma", "b", "kernel"), [(1.0, 1.0, 7), (4.0, 0.0, 1), (2.0, -20.0, 7)])
def test_eca_kernel_by_its_options(gamma: float, b: float, kernel: int) -> None:
    module = block("eca", 64, "paper", gamma=gamma, b=b)
    assert module.get_parameter("conv.weight").shape[-1] == kernel


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(64, 32, 8), (256, 32, 8), (512, 32, 16), (512, 8, 64)])
def test_hidden_channels_of_coord(channels: int, reduction: int, hidden: int) -> None:
    module = block("coord", channels, reduction=reduction)
    assert count(module) == 3 * channels * hidden + 2 * hidden + 2 * channels
    assert module.get_parameter("squeeze.weight").shape == (hidden, channels, 1, 1)
