"""Forwards that branch on their arguments or on the mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.errors import PlanError
from attn_surgeon.surgery.rewrite.operated_modules import generated_sources
from attn_surgeon.surgery.running import run_network
from attn_surgeon.surgery.sites.survey import find_sites
from tests import toy_networks

from ..helpers import blocks, grafted, identical, image, open_up, opened


def test_default_none_keeps_its_branch() -> None:
    stage, x = toy_networks.Masked(), image()
    model = opened(stage, "conv")
    with torch.no_grad():
        expected = F.relu(blocks(model)[0](stage.conv(x))) + x
        assert torch.equal(model(x), expected)
        assert torch.equal(model(x, None, times=1), expected)


@pytest.mark.parametrize("wrong", [{"mask": torch.ones(1)}, {"times": 2}, {"times": torch.ones(2)}])
def test_another_value_of_a_constant_is_refused(wrong: dict[str, object]) -> None:
    model = grafted(toy_networks.Masked(), "conv")
    with pytest.raises(ValueError, match=r"rewritten for \w+=(None|1), but is called with"):
        model(image(), **wrong)


def test_a_flag_that_ends_before_the_graft_takes_the_method_as_written() -> None:
    net, x = toy_networks.StopsEarly(), image()
    model = opened(net, before="fc")
    assert isinstance(model, toy_networks.StopsEarly)
    with torch.no_grad():
        assert torch.equal(model.head(net.conv(x), pre_logits=True), net.conv(x).mean((2, 3)))
        assert torch.equal(model.head(net.conv(x)), model(x))
        assert not torch.equal(model(x), net(x))


def test_a_flag_whose_path_meets_the_graft_too_is_refused() -> None:
    model = grafted(toy_networks.StopsEarly(), before="fc")
    assert isinstance(model, toy_networks.StopsEarly)
    with pytest.raises(ValueError, match="rewritten for doubled=False"):
        model.head(image(), doubled=True)


def test_constant_keyword_is_kept() -> None:
    net, x = toy_networks.CallsMasked(), image()
    model = opened(net, "stage.conv")
    with torch.no_grad():
        assert torch.equal(model(x), F.relu(blocks(model)[0](net.stage.conv(x))) + x + x)


def test_tensor_argument_keeps_its_branch() -> None:
    stage, x, mask = toy_networks.Masked(), image(), torch.rand(4, 1, 1)
    model = opened(stage, "conv", example=(x, mask))
    with torch.no_grad():
        assert torch.equal(model(x, mask), blocks(model)[0](stage.conv(x)) * mask + x)
        assert torch.equal(model(x, mask=2 * mask), blocks(model)[0](stage.conv(x)) * (2 * mask) + x)


def test_keyword_example() -> None:
    stage, x = toy_networks.Masked(), image()
    model = opened(stage, "conv", example={"x": x, "times": 3})
    with torch.no_grad():
        assert torch.equal(model(x=x, times=3), F.relu(blocks(model)[0](stage.conv(x))) + x + x + x)


def test_calls_that_differ_are_not_rewritten() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = toy_networks.Masked()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.stage(self.stage(x), times=2)  # type: ignore[no-any-return]

    net, x = Both(), image()
    model = opened(net, "stage.conv")
    (block,) = blocks(model)
    with torch.no_grad():
        y = F.relu(block(net.stage.conv(x))) + x
        assert torch.equal(model(x), F.relu(block(net.stage.conv(y))) + y + y)


def test_functional_dropout_in_both_modes() -> None:
    net, x = toy_networks.FunctionalDropout(), image()
    model = grafted(net, "conv")
    assert identical(net, model, x)
    assert set(generated_sources(model)) == {"forward", "_forward_train", "_forward_eval"}
    (block,) = blocks(open_up(model))
    with torch.no_grad():
        assert torch.equal(run_network(model, x), block(net.conv(x)) + x)
        torch.manual_seed(5)
        expected = F.dropout(block(net.conv(x)), 0.5) + x
        assert torch.equal(run_network(model, x, training=True, seed=5), expected)


def test_stochastic_depth_in_both_modes() -> None:
    net, x = toy_networks.StochasticDepth(), image(8)
    model = grafted(net, "bn")
    assert identical(net, model, x)
    open_up(model)
    torch.manual_seed(5)
    mask = torch.empty(8, 1, 1, 1).bernoulli_(0.5)
    with torch.no_grad():
        net.train()
        expected = blocks(model)[0](net.bn(net.conv(x))) * mask + x
    assert torch.equal(run_network(model, x, training=True, seed=5), expected)
    assert 0 < mask.sum() < 8


def test_numbers_drawn_in_python_are_not_frozen() -> None:
    net, x = toy_networks.CoinFlip(), image()
    state = torch.get_rng_state()
    model = grafted(net, "conv", example=x)
    assert torch.equal(torch.get_rng_state(), state)
    assert identical(net, open_up(model), x) is False
    kept = [bool(torch.equal(run_network(model, x, training=True, seed=seed), x)) for seed in range(20)]
    assert kept == [bool(torch.equal(run_network(net, x, training=True, seed=seed), x)) for seed in range(20)]
    assert len(set(kept)) == 2
    with torch.no_grad():
        assert torch.equal(run_network(model, x), x + blocks(model)[0](net.conv(x)))


def test_place_that_train_mode_has_elsewhere_is_not_guessed() -> None:
    net, x = toy_networks.NoiseInTrain(), image()
    with pytest.raises(PlanError, match="another number of nodes like 'add' in train mode"):
        grafted(net, "add")
    model = opened(net, "conv")
    with torch.no_grad():
        y = blocks(model)[0](net.conv(x))
        assert torch.equal(run_network(model, x, training=True), y + torch.ones_like(y) + x)
        assert torch.equal(run_network(model, x), y + x)


def test_own_buffer_changed_in_place() -> None:
    net, x = toy_networks.CountsCalls(), image()
    model = grafted(net, "conv")
    counted = float(model.get_buffer("steps"))
    model(x)
    assert float(model.get_buffer("steps")) == counted + 1


def test_planning_leaves_buffers_as_they_were() -> None:
    net, x = toy_networks.CountsCalls(), image()
    runs: list[Tensor] = []
    net.conv.register_forward_hook(lambda _, args, __: runs.append(args[0]))
    find_sites(net, x)
    assert len(runs) > 0
    assert float(net.steps) == 0
