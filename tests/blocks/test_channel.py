"""What single blocks that weigh channels promise beyond the contract of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attn_surgeon.blocks.channel.fca import TOP

from .formulas.fca import BEST
from .helpers import at_random, bits, block, still

OTHERS: list[tuple[str, dict[str, Any], int]] = [
    ("bam-channel", {"reduction": 2}, 1),
    ("eca", {"circular": True, "kernel_size": 9}, 1),
    ("fca", {"frequencies": 32}, 1),
    ("gc", {"fusion": "mul"}, 1),
    ("gc", {"fusion": "both", "pooling": "mean"}, 1),
    ("gct", {"norm": "l1"}, 2),
    ("gct-gauss", {"learned": True}, 2),
    ("ge", {"extent": 2}, 1),
    ("ge", {"parameters": False}, 1),
    ("ge", {"parameters": False, "extent": 0}, 1),
]


@pytest.mark.parametrize(("name", "options", "least"), OTHERS)
def test_other_options_start_as_the_identity_and_learn(name: str, options: dict[str, Any], least: int) -> None:
    for channels in (1, 3, 20, 272):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            x = (1e4 * torch.randn(2, channels, 5, 3)).to(dtype)
            assert torch.equal(bits(block(name, channels, **options).to(dtype).eval()(x)), bits(x))
    for channels in range(least, 6):
        for level in (-50, 0, 50):
            assert still(block(name, channels, **options).eval(), level + torch.randn(3, channels, 5, 7)) == set()


@pytest.mark.parametrize("extent", [0, 1, 3, 6, 12])
def test_an_extent_that_convolutions_of_stride_two_do_not_have(extent: int) -> None:
    with pytest.raises(ValueError, match=f"it gathers by convolutions of stride 2, which have no extent={extent}"):
        block("ge", 16, extent=extent)


@pytest.mark.parametrize("name", ["lct", "sge"])
def test_groups_that_do_not_divide_the_channels(name: str) -> None:
    with pytest.raises(ValueError, match="16 channels are not divisible by groups=3"):
        block(name, 16, groups=3)


@torch.no_grad()
def test_the_first_frequency_alone_is_squeeze_and_excitation() -> None:
    one, se = at_random(block("fca", 32, "paper", frequencies=1)), at_random(block("se", 32, "paper"))
    weights = {f"{layer}.weight": one.state_dict()[f"{layer}.weight"] for layer in ("fc1", "fc2")}
    biases = {"fc1.bias": torch.zeros(2), "fc2.bias": torch.zeros(32)}
    se.load_state_dict(weights | biases)
    x = torch.randn(2, 32, 9, 6)
    torch.testing.assert_close(one(x), se(x), rtol=1e-5, atol=1e-6)


def test_frequencies_are_apart() -> None:
    chosen = list(zip(*(map(int, places) for places in TOP), strict=True))
    assert chosen == BEST
    assert len(set(chosen)) == len(chosen)
    assert np.max(chosen) == 6
