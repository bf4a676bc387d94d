"""Grafts of two inputs: which second tensor they are given, where none is at hand, and that they last."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon import load, save
from attn_surgeon.errors import PlanError, SelectorError
from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.certificate import certify
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import Example, run_network, same_bits
from tests.toy_networks import Residual, Root, paired
from tests.toy_networks.joins import Between

from ..helpers import block_at, blocks, changed, grafted, identical, image, open_up, opened

GATE = {"block": "gate"}
WITH_WIDE: dict[str, Any] = {"block": "gate", "with_": "wide"}


def guided(model: nn.Module) -> nn.Module:
    return opened(model, "a", **WITH_WIDE).eval()


def test_the_named_tensor_is_the_second() -> None:
    net, x = paired.Guided().eval(), image()
    assert identical(net, grafted(net, "a", **WITH_WIDE), x)
    model = guided(net)
    with torch.no_grad():
        wide = net.wide(x)
        assert same_bits(model(x), (net.b(blocks(model)[0](net.a(x), wide)), wide))
    assert changed(net, model, x)


def test_another_shape_is_projected_and_interpolated() -> None:
    net, x = paired.Guided().eval(), image()
    (block,) = blocks(guided(net))
    fitted = block.get_submodule("project")
    with torch.no_grad():
        y, wide = net.a(x), net.wide(x)
        brought = F.interpolate(fitted(wide), size=(8, 8), mode="bilinear", align_corners=False)
        assert fitted.weight.shape == (4, 6, 1, 1)
        assert torch.equal(block(y, wide), block.get_submodule("block")(y, brought))


def test_before_a_site_too() -> None:
    net, x = paired.Guided().eval(), image()
    model = opened(net, before="b", **WITH_WIDE).eval()
    with torch.no_grad():
        assert torch.equal(model(x)[0], net.b(blocks(model)[0](net.a(x), net.wide(x))))


@pytest.mark.parametrize(
    ("gate_first", "side"),
    [
        (False, {"after": "a"}),
        (True, {"after": "a"}),
        (False, {"before": "b"}),
        (True, {"before": "b"}),
    ],
)
def test_the_second_tensor_comes_through_its_own_graft(gate_first: bool, side: dict[str, Any]) -> None:
    net, x = paired.Guided().eval(), image()
    steps: list[dict[str, Any]] = [{"block": "eca", "after": "wide"}, {"block": "gate", "with_": "wide", **side}]
    model: nn.Module = net
    for step in reversed(steps) if gate_first else steps:
        model = insert(model, example=x, **step)
    open_up(model).eval()
    gate = next(made.block for made in list_grafts(model) if made.graft.block["name"] == "gate")
    with torch.no_grad():
        wide = block_at(model, "wide")(net.wide(x))
        assert same_bits(model(x), (net.b(gate(net.a(x), wide)), wide))


@pytest.mark.parametrize("gate_first", [False, True])
def test_the_other_tensor_of_a_join_comes_through_its_own_graft(gate_first: bool) -> None:
    net, x = paired.Joined().eval(), image()
    steps: list[dict[str, Any]] = [{"block": "eca", "after": "fine"}, {"block": "gate", "before": "cat:0"}]
    model: nn.Module = net
    for step in reversed(steps) if gate_first else steps:
        model = insert(model, example=x, **step)
    open_up(model).eval()
    with torch.no_grad():
        fine = block_at(model, "fine")(net.fine(x))
        gated = block_at(model, "cat:0", "before")(net.up(net.coarse(fine)), fine)
        assert torch.equal(model(x), net.out(torch.cat([gated, fine], 1)))


def test_the_other_tensor_of_a_join_is_the_second() -> None:
    net, x = paired.Joined().eval(), image()
    for site, order in (("cat:0", 1), ("cat:1", -1)):
        assert identical(net, grafted(net, before=site, **GATE), x)
        model = opened(net, before=site, **GATE).eval()
        with torch.no_grad():
            fine = net.fine(x)
            one, other = [net.up(net.coarse(fine)), fine][::order]
            parts = [blocks(model)[0](one, other), other][::order]
            assert torch.equal(model(x), net.out(torch.cat(parts, 1)))


def test_skips_are_gated_by_what_they_join() -> None:
    net, x = paired.Joined().eval(), image()
    model = open_up(insert(net, "gate", at="skips", example=x))
    (made,) = list_grafts(model)
    assert (made.graft.site, made.graft.side) == ("cat:1", "before")
    assert made.graft.second is not None
    assert made.graft.second.shape == (2, 6, 8, 8)
    with torch.no_grad():
        fine = net.fine(x)
        coarse = net.up(net.coarse(fine))
        assert torch.equal(model.eval()(x), net.out(torch.cat([coarse, made.block(fine, coarse)], 1)))


def test_fusions_are_gated_before_they_join() -> None:
    net, x = paired.Joined().eval(), image()
    model = open_up(insert(net, "gate", at="fusions", example=x)).eval()
    (made,) = list_grafts(model)
    assert (made.graft.site, made.graft.side) == ("cat:0", "before")
    with torch.no_grad():
        fine = net.fine(x)
        coarse = net.up(net.coarse(fine))
        assert torch.equal(model(x), net.out(torch.cat([made.block(coarse, fine), fine], 1)))


def test_alone_it_takes_one_map_twice() -> None:
    net, x = paired.Guided().eval(), image()
    model = opened(net, "a", **GATE).eval()
    with torch.no_grad():
        y = net.a(x)
        inner = blocks(model)[0].get_submodule("block")
        assert torch.equal(model(x)[0], net.b(inner(y, y)))


@pytest.mark.parametrize(
    ("net", "site", "second", "reason"),
    [
        (paired.Guided(), "wide", "a", "a is computed only after it"),
        (paired.Guided(), "a", "a", "a is computed only after it"),
        (Between(Residual()), "block.conv", "stem", "no forward has both it and stem"),
        (Between(Residual()), "fc", "block.conv", "no forward has both it and block.conv"),
        (Root(nn.Sequential(Residual(), Residual())), "stage.1", "stage.0", "no forward has both it and stage.0"),
    ],
)
def test_a_tensor_that_is_not_at_hand_is_refused(net: nn.Module, site: str, second: str, reason: str) -> None:
    with pytest.raises(PlanError, match=f"after {site}: {reason}"):
        insert(net, "gate", after=site, with_=second, example=image())


def test_an_unknown_second_tensor_is_reported_with_the_nearest() -> None:
    with pytest.raises(SelectorError, match="no site is called 'wid'; with_; did you mean wide"):
        insert(paired.Guided(), "gate", after="a", with_="wid", example=image())


def test_copies_and_pickles_gate_by_the_same_values() -> None:
    x = image()
    model = guided(paired.Guided())
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    with torch.no_grad():
        expected = model(x)
        assert all(same_bits(each(x), expected) for each in copies)
    assert [made.graft for made in list_grafts(copies[1])] == [made.graft for made in list_grafts(model)]


@pytest.mark.parametrize("patch", [False, True])
def test_artefacts_keep_both_inputs(patch: bool, tmp_path: Path) -> None:
    net, x = paired.Guided().eval(), image()
    model = guided(net)
    save(model, tmp_path / "net.safetensors", patch=patch)
    again = load(tmp_path / "net.safetensors", model=net)
    mine, theirs = model.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert [made.graft for made in list_grafts(again)] == [made.graft for made in list_grafts(model)]
    with torch.no_grad():
        assert same_bits(again.eval()(x), model(x))
        assert not same_bits(again(x), net(x))


def test_joins_in_artefacts(tmp_path: Path) -> None:
    net, x = paired.Joined().eval(), image()
    model = open_up(insert(net, "gate", at="skips", example=x)).eval()
    save(model, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors", model=net).eval()
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
        assert not torch.equal(again(x), net(x))


def test_train_and_eval_mode_take_different_paths() -> None:
    net, x = paired.Guided(), image()
    model = guided(net)
    reference = copy.deepcopy(blocks(model)[0]).train()
    trained = run_network(model, x, training=True, seed=3)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        y = reference(net.a(x), net.wide(x))
        expected = net.b(F.dropout(y + 1, 0.5, True))
    assert torch.equal(trained[0], expected)
    assert same_bits(run_network(remove(model), x, training=True, seed=3), run_network(net, x, training=True, seed=3))


def test_both_in_a_helper_method() -> None:
    net, x = paired.GuidedHelpers().eval(), image()
    model = opened(net, "body", block="gate", with_="stem").eval()
    with torch.no_grad():
        stem = net.stem(x)
        features = blocks(model)[0](net.body(F.relu(stem)), stem)
        assert torch.equal(model.forward_features(x), features)  # type: ignore[operator]
        assert torch.equal(model(x), net.fc(net.norm(features).mean((2, 3))))


def test_the_second_in_a_helper_and_the_first_in_the_forward() -> None:
    net, x = paired.GuidedHelpers().eval(), image()
    assert identical(net, grafted(net, "norm", block="gate", with_="stem"), x)
    model = opened(net, "norm", block="gate", with_="stem").eval()
    with torch.no_grad():
        y = net.norm(net.forward_features(x))
        assert torch.equal(model(x), net.fc(blocks(model)[0](y, net.stem(x)).mean((2, 3))))


def test_gradients_reach_both_inputs() -> None:
    net, x = paired.Guided().eval(), image()
    model = grafted(net, "a", **WITH_WIDE).eval()
    open_up(model)
    model(x)[0].square().sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.abs().sum() > 0) for weight in model.wide.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("block", ["gate", "mdaf"])
@pytest.mark.parametrize("named", [False, True])
def test_two_images_from_end_to_end(block: str, named: bool, tmp_path: Path) -> None:
    net, x, y = paired.TwoViews().eval(), image(2, 4, 16), image(2, 4, 16)
    example: Example = {"left": x, "right": y} if named else (x, y)
    options = {"heads": 2} if block == "mdaf" else {}
    model = insert(net, block, at="fusions", example=example, options=options)

    def round_trip(network: nn.Module) -> nn.Module:
        save(network, tmp_path / "net.safetensors")
        return load(tmp_path / "net.safetensors", model=net)

    certificate = certify(net, model, example, round_trip=round_trip)
    assert {check.status for check in certificate.checks} == {"passed"}
    open_up(model).eval()
    (made,) = list_grafts(model)
    with torch.no_grad():
        left, right = net.left(x), net.right(y)
        assert torch.equal(run_network(model, example), net.out(torch.cat([made.block(left, right), right], 1)))


def test_views_of_different_sizes_have_no_second_size_to_try() -> None:
    class Sizes(paired.TwoViews):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return super().forward(left, F.interpolate(right, size=left.shape[2:]))

    net, example = Sizes().eval(), (image(2, 4, 16), image(2, 4, 8))
    model = insert(net, "gate", at="fusions", example=example)
    assert same_bits(run_network(model, example), run_network(net, example))
    assert certify(net, model, example).passed
