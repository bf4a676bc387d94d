"""Hard attention's draws: stateless, other at each step, and with a gradient; and soft attention's two forms."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attn_surgeon.blocks.base.noise import Noise
from attn_surgeon.blocks.both.hard import HardAttention

from .helpers import bits, block, still

FORMS: list[dict[str, Any]] = [
    {"over": over, "draw": draw} for over in ("positions", "channels") for draw in ("bernoulli", "gumbel")
]


def hard(channels: int = 12, init: str = "paper", **options: Any) -> nn.Module:
    return block("hard", channels, init, **options).train()


def kept(module: nn.Module, x: Tensor) -> Tensor:
    """Return which features came through."""
    y: Tensor = module(x)
    assert bool(((y == x) | (y == 0)).all())
    return y != 0


def numbers(noise: Noise, x: Tensor, count: int, weights: tuple[Tensor, ...] = ()) -> Tensor:
    made: Tensor = noise(x, weights, count)
    return made


def test_noise_is_uniform_and_uncorrelated() -> None:
    noise, x = Noise(), torch.randn(64, 3, 4, 4)
    made = numbers(noise, x, 4096).double()
    assert 0 < made.min() < 1e-4
    assert 1 - 1e-4 < made.max() < 1
    assert len(set(made.flatten().tolist())) > 0.95 * made.numel()
    counts = torch.histc(made.float(), 64, 0, 1) / (made.numel() / 64)
    assert counts.sub(1).abs().max() < 0.1
    centred = (made - 0.5) * 12**0.5
    for step in (1, 2, 64, 1024):
        assert (centred[:, step:] * centred[:, :-step]).mean().abs() < 0.01
        if step < 64:
            assert (centred[step:] * centred[:-step]).mean().abs() < 0.01
    assert (centred.mean(1) * 64).abs().max() < 4.5  # each image's mean, in standard deviations


def test_noise_depends_on_the_seed_the_image_and_the_weights_alone() -> None:
    x, weight = torch.randn(3, 2, 5, 5), torch.randn(4, 4)
    noise = Noise()
    first = numbers(noise, x, 50, (weight,))
    assert torch.equal(numbers(noise, x, 50, (weight,)), first)
    assert torch.equal(numbers(noise, x[1:2], 50, (weight,)), first[1:2])
    assert not torch.equal(first[0], first[1])
    changed = weight.clone()
    changed[2, 1] = torch.nextafter(changed[2, 1], torch.tensor(9.0))
    for other in (
        numbers(Noise(), x, 50, (weight,)),
        numbers(noise, x, 50, (changed,)),
        numbers(noise, -x, 50, (weight,)),
    ):
        assert (other - first).abs().median() > 0.1
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert numbers(noise, x.to(dtype), 50).shape == (3, 50)


@pytest.mark.parametrize("form", FORMS)
def test_draws_leave_torchs_random_streams_alone(form: dict[str, Any]) -> None:
    module, x = hard(**form), torch.randn(2, 12, 6, 5)
    before = torch.get_rng_state()
    module(x).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("form", FORMS)
def test_draws_are_other_ones_at_each_step_and_the_same_from_the_same_seed(form: dict[str, Any]) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        module, x = hard(init="identity", **form), torch.randn(2, 12, 6, 5)
        optimizer = torch.optim.SGD(module.parameters(), 1e-3)
        logits: list[Tensor] = []
        module.get_submodule("noise").register_forward_hook(lambda _, __, made, seen=logits: seen.append(made))
        for _ in range(4):
            optimizer.zero_grad()
            module(x).square().sum().backward()
            optimizer.step()
        runs.append(logits)
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))
    assert all((one - next_).abs().median() > 0.1 for one, next_ in zip(runs[0], runs[0][1:], strict=False))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_computes_the_same_draws_again(form: dict[str, Any], reentrant: bool) -> None:
    module, x = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.Dropout(0.5), hard(**form)), torch.randn(2, 12, 6, 5)
    found = []
    for run in (module, lambda x: checkpoint(module, x, use_reentrant=reentrant)):
        torch.manual_seed(1)
        module.zero_grad()
        given = x.clone().requires_grad_()
        y = run(given)  # type: ignore[no-untyped-call]
        y.square().sum().backward()
        found.append([y, given.grad, *(parameter.grad for parameter in module.parameters())])
    for plain, again in zip(*found, strict=True):
        assert plain is not None
        assert again is not None
        assert torch.equal(plain, again)


@pytest.mark.parametrize("form", FORMS)
def test_copies_draw_the_same(form: dict[str, Any]) -> None:
    module, x = hard(**form), torch.randn(2, 12, 6, 5)
    y = module(x)
    loaded = hard(**form)
    loaded.load_state_dict(module.state_dict())
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
        assert torch.equal(copied(x), y)


@pytest.mark.parametrize(
    "form", [form if form is FORMS[3] else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]
)
def test_compiled_in_training(form: dict[str, Any]) -> None:
    module, x = hard(**form), torch.randn(2, 12, 6, 5)
    y = module(x)
    y.square().sum().backward()
    expected = [parameter.grad for parameter in module.parameters()]
    module.zero_grad()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    got = compiled(x)
    got.square().sum().backward()
    torch.testing.assert_close(got, y)
    torch.testing.assert_close([parameter.grad for parameter in module.parameters()], expected)
    torch._dynamo.reset()


@torch.no_grad()
@pytest.mark.parametrize("keep", [0.1, 0.3, 0.7, 0.999])
def test_the_share_that_is_kept(keep: float) -> None:
    x = torch.randn(8, 30, 10, 12)
    most = -(-round(1000 * keep) * 120 // 1000)
    module = hard(30, keep=keep)
    module.get_parameter("choose.weight").zero_()
    assert abs(kept(module, x)[:, 0].float().mean().item() - keep) < 0.03
    assert set(kept(module.eval(), x)[:, 0].sum((1, 2)).tolist()) == {most}
    module = hard(30, keep=keep, draw="gumbel")
    first = kept(module, x)
    assert set(first[:, 0].sum((1, 2)).tolist()) == {most}
    assert torch.equal(first, kept(module, x))
    if keep < 0.9:
        module = hard(30, keep=keep, draw="gumbel", over="channels")
        assert set(kept(module, x)[:, :, 0, 0].sum(1).tolist()) == {round(30 * keep)}
        assert set(kept(module.eval(), x)[:, :, 0, 0].sum(1).tolist()) == {round(30 * keep)}


@torch.no_grad()
def test_of_those_alike_the_first_are_kept() -> None:
    module, x = hard().eval(), torch.ones(1, 12, 4, 6)
    module.get_parameter("choose.weight").zero_()
    assert kept(module, x)[0, 0].flatten().tolist() == 12 * [True] + 12 * [False]


@torch.no_grad()
def test_logits_decide_the_frequency_of_samples() -> None:
    module, x = hard(), torch.randn(1, 12, 6, 5)
    z = module.choose(module.look(module.norm(x)).relu())[0, 0]  # type: ignore[operator]
    often = torch.zeros(6, 5)
    for _ in range(2000):
        module.get_buffer("noise.seed").copy_(torch.randint(2**31, (1,)))
        often += kept(module, x)[0, 0].float() / 2000
    assert (often - z.sigmoid()).abs().max() < 0.05


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_is_that_of_the_relaxation(form: dict[str, Any], training: bool) -> None:
    module = hard(**form, temperature=0.7).double().train(training)
    x = torch.randn(2, 12, 6, 5, dtype=torch.float64)
    z = torch.randn(2, 12 if form["over"] == "channels" else 30, dtype=torch.float64, requires_grad=True)
    assert isinstance(module, HardAttention)
    gates = module._gates(x, z)
    assert set(gates.flatten().tolist()) == {0.0, 1.0}
    weights = torch.randn_like(gates)
    (got,) = torch.autograd.grad((gates * weights).sum(), z)
    noise = numbers(module.noise, x, z.shape[1], tuple(module.parameters())).double() if training else None
    (expected,) = torch.autograd.grad((relaxed(z, noise, form["draw"]) * weights).sum(), z)
    torch.testing.assert_close(got, expected)
    assert bool(expected.any())


def relaxed(z: Tensor, noise: Tensor | None, draw: str) -> Tensor:
    if draw == "bernoulli":
        odds = 0 if noise is None else (noise / (1 - noise)).log()
        return 1 / (1 + (-(z + odds) / 0.7).exp())
    powers = ((z - (0 if noise is None else (1 / noise).log().log())) / 0.7).exp()
    return powers / powers.sum(1, keepdim=True) * (z.shape[1] // 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("level", [-50, 0, 50])
def test_every_form_learns(form: dict[str, Any], training: bool, level: float) -> None:
    for channels in (2, 3, 4, 13, 48):
        module, x = hard(channels, "identity", **form).train(training), level + torch.randn(4, channels, 5, 7)
        assert torch.equal(bits(module(x)), bits(x))
        assert still(module, x) == set()


@pytest.mark.parametrize(("channels", "keep"), [(1, 0.5), (2, 0.6), (3, 0.7), (8, 0.9)])
def test_channels_too_few_to_choose_from(channels: int, keep: float) -> None:
    with pytest.raises(ValueError, match=f"it has {channels} channels, too few to keep a share of {keep} and drop"):
        hard(channels, over="channels", keep=keep)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (13, 29), (49, 167)])
def test_a_flat_softmax_is_exactly_one(dtype: torch.dtype, size: tuple[int, int]) -> None:
    module, x = block("soft", 5, form="softmax").to(dtype), torch.randn(2, 5, *size).to(dtype)
    assert torch.equal(bits(module(x)), bits(x))


@pytest.mark.parametrize("level", [-50, 0, 50])
def test_the_softmax_form_learns(level: float) -> None:
    for channels in (3, 13, 48):
        module, x = block("soft", channels, form="softmax"), level + torch.randn(4, channels, 5, 7)
        assert still(module, x) == set()
