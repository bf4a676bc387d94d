"""Several grafts in one network: made, stacked, taken out, and undone where something fails."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import SelectorError
from attn_surgeon.operations.block_fitting import block_request, build_blocks
from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.edit import perform, perform_checked
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts
from attn_surgeon.surgery.planner import make_plan
from attn_surgeon.surgery.rewrite.binding import UntraceableError
from attn_surgeon.surgery.rewrite.operated_modules import is_operated
from attn_surgeon.surgery.sites.selection import Selection
from attn_surgeon.surgery.sites.survey import survey
from tests import toy_networks

from .helpers import block_at, changed, grafted, identical, image, open_up, opened

SPEC = BlockSpec("se", {"reduction": 2})


def snapshot(model: nn.Module) -> list[tuple[str, type, list[str]]]:
    return [(name, type(module), list(vars(module))) for name, module in model.named_modules()]


def planned(model: nn.Module, *sites: str) -> Any:
    return make_plan(survey(model, image()), Selection.read(after=sites), block_request(SPEC)).grafts


@pytest.mark.parametrize("already", [False, True])
def test_failure_half_way_restores_everything(already: bool) -> None:
    net, x = toy_networks.Stages(toy_networks.call), image()
    model = opened(net, ["stage.0", "stage.0.conv"]) if already else net
    grafts = planned(model, "stage.0", "stage.2.conv")
    wrong = grafts[1].moved(replace(grafts[1].placement, node="missing"))
    before, twin, state = snapshot(model), copy.deepcopy(model), model.state_dict()
    with pytest.raises(UntraceableError, match="no node 'missing'"):
        perform(model, [grafts[0], wrong], build_blocks(model, grafts, 0))
    assert snapshot(model) == before
    assert list(model.state_dict()) == list(state)
    assert identical(twin, model, x)


def test_output_that_would_change_is_refused_and_restored() -> None:
    net, x = toy_networks.Stages(toy_networks.call), image()
    grafts = planned(net, "stage.0", "stage.2.conv")
    before, reference = snapshot(net), copy.deepcopy(net)
    outcome = perform_checked(net, grafts, build_blocks(net, grafts, 0), lambda: "the network's output would change")
    assert outcome.made == ()
    assert [refusal.reason for refusal in outcome.refused] == ["the network's output would change"] * 2
    assert snapshot(net) == before
    assert identical(reference, net, x)


def test_a_broken_first_placement_falls_back_to_the_next() -> None:
    net, x = toy_networks.Root(toy_networks.Residual()), image()
    (graft,) = planned(net, "stage.conv")
    wrong = replace(graft, placement=replace(graft.placement, node="missing"))
    outcome = perform_checked(net, [wrong], build_blocks(net, [graft], 0), lambda: "")
    (made,) = outcome.made
    assert made.placement.how == "wrapped"
    original = toy_networks.Root(toy_networks.Residual())
    restored = remove(net)
    original.load_state_dict(restored.state_dict())
    assert identical(original, net, x)


def test_removing_one_of_several() -> None:
    net, x = toy_networks.Stages(toy_networks.call), image()
    model = opened(net, ["stage.0", "stage.0.conv", "stage.2"])
    model = remove(model, "stage.0")
    assert {made.graft.site for made in list_grafts(model)} == {"stage.0.conv", "stage.2"}
    first, _, last = net.stage
    with torch.no_grad():
        y = torch.relu(x + block_at(model, "stage.0.conv")(first.conv(x)))  # type: ignore[operator]
        assert torch.equal(model(x), block_at(model, "stage.2")(last(y)))


def test_removing_by_glob_leaves_others_and_the_input_model() -> None:
    net, x = toy_networks.Stages(toy_networks.call), image()
    model = opened(net, ["stage.0", "stage.0.conv", "stage.2.conv"])
    less = remove(model, "stage.*.conv")
    assert [made.graft.site for made in list_grafts(less)] == ["stage.0"]
    assert len(list_grafts(model)) == 3
    assert identical(net, remove(less), x)


def test_removing_what_is_not_there() -> None:
    net = toy_networks.Stages(toy_networks.call)
    with pytest.raises(SelectorError, match=r"no graft is at 'stage.9'; the network has 1 graft; did you mean stage.0"):
        remove(grafted(net, "stage.0"), "stage.9")
    with pytest.raises(SelectorError, match="the network has no grafts"):
        remove(net)


@pytest.mark.parametrize("site", ["stage.0", "stage.0.conv", "stage.1", "stage", "mean"])
def test_stacking_two_blocks_at_one_site(site: str) -> None:
    class Net(toy_networks.Stages):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).mean((2, 3))

    net, x = Net(toy_networks.call), image()
    first = opened(net, site)
    model = open_up(insert(first, "eca", after=site, example=x))
    se, eca = (made.block for made in list_grafts(model))
    assert [made.graft.block["name"] for made in list_grafts(model)] == ["se", "eca"]
    seen: list[torch.Tensor] = []
    se.register_forward_hook(lambda _, __, output: seen.append(output))
    eca.register_forward_hook(lambda _, args, output: seen.extend((args[0], output)))
    with torch.no_grad():
        model(x)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    assert not changed(net, remove(model), x)


def test_a_second_insert_still_finds_the_original_sites() -> None:
    net, x = toy_networks.Stages(toy_networks.call), image()
    names = [site.name for site in survey(net, x).sites]
    model = grafted(net, "**")
    assert [site.name for site in survey(model, x).sites] == names
    again = grafted(model, "**")
    assert len(list_grafts(again)) == 2 * len(list_grafts(model))
    assert identical(net, again, x)
    assert identical(net, remove(again), x)


def test_both_sides_of_one_edge() -> None:
    net, x = toy_networks.InPlace().eval(), image()
    model = opened(net, "conv", before="bn")
    with torch.no_grad():
        y = block_at(model, "bn", "before")(block_at(model, "conv")(net.conv(x)))
        out = net.bn2(net.conv2(net.relu(net.bn(y)))) + x
        assert torch.equal(model.eval()(x), torch.relu(out))


def test_bypassed_grafts_pass_their_input_on() -> None:
    net, x = toy_networks.InPlace(), image()
    model = opened(net, ["bn", "add"])
    assert changed(net, model, x)
    with bypassed(made.block for made in list_grafts(model)):
        assert identical(net, model, x)
    assert changed(net, model, x)


def test_restored_modules_have_their_own_class() -> None:
    net = toy_networks.Helpers()
    restored = remove(grafted(net, "**"))
    assert snapshot(restored) == snapshot(net)
    assert not any(is_operated(module) for module in restored.modules())
