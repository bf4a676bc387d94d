"""Blocks whose convolutions have as many dimensions as the features, and blocks of two inputs on volumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks import BlockSpec, SecondInput, build_block, is_identity
from tests.each import each

from .helpers import at_random, bits, still

LAYOUTS = {
    "NCL": (2, 8, 11),
    "NLC": (2, 13, 8),
    "NCDHW": (2, 8, 3, 5, 4),
    "NDHWC": (2, 3, 5, 4, 8),
}
CONVOLUTIONS = {3: F.conv1d, 5: F.conv3d}
OPTIONS: tuple[dict[str, object], ...] = ({}, {"norm": False, "order": "mean-max", "kernel_size": 3})


def built(name: str, layout: str, options: dict[str, object], init: str = "identity") -> nn.Module:
    prefix = 2 if layout == "NLC" else 0
    return build_block(BlockSpec(name, options, init), 8, layout=layout, prefix=prefix, positions=60)


def channels_first(x: Tensor, layout: str) -> Tensor:
    return x[:, 2:].transpose(1, 2) if layout == "NLC" else x.movedim(layout.index("C"), 1)


def weighed(x: Tensor, w: dict[str, Tensor], name: str, mean_first: bool) -> Tensor:
    """Compute the published form of features (N, C, ...)."""
    if name == "cbam":
        flat = x.flatten(2)
        hidden = [
            F.relu(F.linear(pooled, w["channel.mlp.0.weight"], w["channel.mlp.0.bias"]))
            for pooled in (flat.mean(2), flat.amax(2))
        ]
        z = sum(F.linear(each, w["channel.mlp.2.weight"], w["channel.mlp.2.bias"]) for each in hidden)
        x = x * torch.as_tensor(z).sigmoid().reshape(*x.shape[:2], *[1] * (x.ndim - 2))
    prefix = "spatial." if name == "cbam" else ""
    pooled = [x.amax(1, keepdim=True), x.mean(1, keepdim=True)]
    kernel = w[f"{prefix}conv.weight"]
    z = CONVOLUTIONS[x.ndim](
        torch.cat(pooled[::-1] if mean_first else pooled, 1), kernel, padding=kernel.shape[-1] // 2
    )
    if f"{prefix}bn.weight" in w:
        z = (z - w[f"{prefix}bn.running_mean"]) / (w[f"{prefix}bn.running_var"] + 1e-5).sqrt()
        z = z * w[f"{prefix}bn.weight"] + w[f"{prefix}bn.bias"]
    return x * z.sigmoid()


@torch.no_grad()
@pytest.mark.parametrize("name", ["spatial", "cbam"])
@each("layout", [*LAYOUTS])
@each("options", OPTIONS)
def test_convolutions_along_all_axes(name: str, layout: str, options: dict[str, object]) -> None:
    module = at_random(built(name, layout, options, "paper")).double().eval()
    w = {key.removeprefix("block."): value for key, value in module.state_dict().items()}
    x = torch.randn(LAYOUTS[layout]).double()
    expected = weighed(channels_first(x, layout), w, name, "order" in options)
    torch.testing.assert_close(channels_first(module(x), layout), expected, rtol=1e-12, atol=1e-12)
    if layout == "NLC":
        assert torch.equal(module(x)[:, :2], x[:, :2])


@pytest.mark.parametrize("name", ["spatial", "cbam"])
@each("layout", [*LAYOUTS])
@each("options", OPTIONS)
def test_they_start_as_the_identity_and_learn(name: str, layout: str, options: dict[str, object]) -> None:
    module = built(name, layout, options)
    assert is_identity(module)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = (9 * torch.randn(LAYOUTS[layout])).to(dtype)
        for training in (True, False):
            with torch.no_grad():
                assert torch.equal(bits(module.to(dtype).train(training)(x)), bits(x))
    assert still(module.train(), torch.rand(LAYOUTS[layout])) == set()


def pair(layout: str, other: SecondInput, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor, Tensor]:
    module = build_block(BlockSpec("gate", {}, "paper"), 8, layout=layout, positions=60, other=other)
    return at_random(module).double(), torch.randn(LAYOUTS[layout]).double(), torch.randn(shape).double()


SECONDS = [
    ("NCDHW", SecondInput(8, "NCDHW"), (2, 8, 3, 5, 4)),
    ("NCDHW", SecondInput(5, "NDHWC"), (2, 2, 3, 2, 5)),
    ("NDHWC", SecondInput(5, "NCDHW"), (2, 5, 2, 3, 2)),
    ("NCL", SecondInput(5, "NCL"), (2, 5, 6)),
]


@torch.no_grad()
@pytest.mark.parametrize(("layout", "other", "shape"), SECONDS, ids=str)
def test_the_attention_gate_on_volumes_and_sequences(layout: str, other: SecondInput, shape: tuple[int, ...]) -> None:
    module, x, y = pair(layout, other, shape)
    volume = channels_first(x, layout)
    w = {key.removeprefix("block.").removeprefix("block."): value for key, value in module.state_dict().items()}
    second = y.movedim(other.layout.index("C"), 1)
    if "project.weight" in w:
        second = torch.einsum("oc,nc...->no...", w["project.weight"].flatten(1), second)
    if second.shape[2:] != volume.shape[2:]:
        mode = "trilinear" if volume.ndim == 5 else "linear"
        second = F.interpolate(second, size=volume.shape[2:], mode=mode, align_corners=False)
    for training in (False, True):
        expected = gated(volume, second, w, training)
        torch.testing.assert_close(
            channels_first(module.train(training)(x, y), layout), expected, rtol=1e-12, atol=1e-12
        )


def gated(x: Tensor, g: Tensor, w: dict[str, Tensor], training: bool) -> Tensor:
    def normal(z: Tensor, name: str) -> Tensor:
        axes, along = [0, *range(2, z.ndim)], (-1, *[1] * (z.ndim - 2))
        mean, var = (
            (z.mean(axes), z.var(axes, correction=0))
            if training
            else (w[f"{name}.running_mean"], w[f"{name}.running_var"])
        )
        scaled = (z - mean.reshape(along)) / (var.reshape(along) + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"].reshape(along) + w[f"{name}.bias"].reshape(along)

    def mixed(z: Tensor, name: str) -> Tensor:
        return torch.einsum("oc,nc...->no...", w[f"{name}.weight"].flatten(1), z)

    hidden = F.relu(normal(mixed(x, "conv_x"), "bn_x") + normal(mixed(g, "conv_g"), "bn_g"))
    return x * normal(mixed(hidden, "psi"), "bn").sigmoid()


@pytest.mark.parametrize(("layout", "other", "shape"), SECONDS, ids=str)
def test_the_attention_gate_on_volumes_starts_as_the_identity(
    layout: str, other: SecondInput, shape: tuple[int, ...]
) -> None:
    module = build_block(BlockSpec("gate"), 8, layout=layout, positions=60, other=other)
    x, y = 9 * torch.randn(LAYOUTS[layout]), torch.randn(shape)
    assert is_identity(module)
    for training in (True, False):
        with torch.no_grad():
            assert torch.equal(module.train(training)(x, y), x)
    assert still(module.train(), torch.rand(LAYOUTS[layout]), torch.rand(shape)) == set()


@pytest.mark.parametrize(
    ("layout", "other", "reason"),
    [
        ("NCDHW", "NCHW", "gate takes NCDHW or NDHWC as its second input there, not NCHW"),
        ("NCL", "NCDHW", "gate takes NCL as its second input there, not NCDHW"),
        ("NCHW", "NCDHW", r"gate takes a map \(N, C, H, W\) as its second input, not NCDHW"),
    ],
)
def test_a_second_input_of_other_dimensions_is_refused(layout: str, other: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build_block(BlockSpec("gate"), 8, layout=layout, positions=60, other=SecondInput(8, other))
