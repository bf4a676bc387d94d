"""Every parameter of a block learns from its first steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.each import each

from .helpers import NAMES, block, still

LEAST = {
    "mdaf": 3,  # two channels normalised over channels are 1 and -1, whatever they were
    "ge": 2,  # of a lone channel, the ReLU may be off for every image
    "gct": 2,  # a lone channel's norm among the norms of all is 1
    "gct-gauss": 2,  # a lone channel's mean is that of all, and its gate 1
    "psa-p": 3,  # the same norm as of mdaf
    "psa-s": 3,
    "lct": 2,  # a lone channel's mean, normalised over channels, is 0
    "nam": 4,  # with few channels the share of each in a sum of 1 is large, and the sigmoid of a share of -50 is flat
}


@pytest.mark.parametrize("name", NAMES)
@each("training", [True, False])
@each("channels", [48, 67, 6])
def test_every_parameter_moves_within_two_steps(name: str, training: bool, channels: int) -> None:
    module, x = block(name, channels).train(training), torch.randn(4, channels, 6, 6)
    assert still(module, x) == set()


@pytest.mark.parametrize("name", NAMES)
@each("level", [-50, 0, 50])
def test_few_channels_learn_whatever_the_sign_of_their_features(name: str, level: float) -> None:
    for channels in range(LEAST.get(name, 1), 6):
        module, x = block(name, channels).eval(), level + torch.randn(3, channels, 5, 7)
        assert still(module, x) == set()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_under_autocast_with_a_loss_scale(name: str) -> None:
    module, x = block(name, 32).train(), torch.randn(4, 32, 6, 6, requires_grad=True)
    slope = torch.randn_like(x)
    optimizer = torch.optim.SGD(module.parameters(), 1e-2)
    moved = {key: False for key, _ in module.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = (module(x).float() * slope).mean()
        (1024 * loss).backward()
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None
            assert bool(parameter.grad.isfinite().all()), key
            moved[key] |= bool(parameter.grad.any())
            parameter.grad /= 1024
        optimizer.step()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert all(moved.values()), moved


@pytest.mark.parametrize("name", NAMES)
@each("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_large_features_in_half_precision_are_finite(name: str, dtype: torch.dtype) -> None:
    module = block(name, 32).to(dtype)
    x = (100 * torch.randn(2, 32, 5, 7)).to(dtype).requires_grad_()
    module(x).float().mean().backward()
    for parameter in (x, *module.parameters()):
        assert isinstance(parameter, torch.Tensor)
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_the_output(name: str) -> None:
    module, x = block(name, 32).train(), torch.randn(2, 32, 6, 6)
    assert isinstance(module, nn.Module)
    (module(x) * torch.randn_like(x)).sum().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    assert not torch.equal(module(x), x)
