"""The public functions: what they refuse before anything changes, and what they are seeded by."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import BlockError, PlanError, SelectorError, SourceError, SurgeonError, for_python
from attn_surgeon.operations.insert import insert, insert_block, plan, plan_insertion
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts, ran
from attn_surgeon.surgery.running import run_network, same_bits
from attn_surgeon.surgery.sites.selection import Selection
from tests import toy_networks
from tests.toy_networks import trunks

SE = BlockSpec("se", {"reduction": 2})


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 4, 8, 8)


def values(model: nn.Module) -> list[Tensor]:
    return [parameter.detach() for made in list_grafts(model) for parameter in made.block.parameters()]


def test_seed_decides_the_blocks_and_nothing_else_does(x: Tensor) -> None:
    net = toy_networks.InPlace()
    first = insert(net, "se", after="bn", example=x, options={"reduction": 2}, seed=3)
    torch.rand(5)
    state = torch.get_rng_state()
    second = insert(net, "se", after="bn", example=x, options={"reduction": 2}, seed=3)
    other = insert(net, "se", after="bn", example=x, options={"reduction": 2}, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_bits(values(first), values(second))
    assert not same_bits(values(first), values(other))


def test_options_reach_the_block(x: Tensor) -> None:
    model = insert(toy_networks.InPlace(), "spatial", after="bn", example=x, options={"kernel_size": "3"})
    (made,) = list_grafts(model)
    assert made.block.get_parameter("conv.weight").shape == (1, 2, 3, 3)
    assert made.graft.block == {"name": "spatial", "options": {"kernel_size": 3}, "init": "identity"}


def test_published_start_changes_the_output_but_not_the_surgery(x: Tensor) -> None:
    net = toy_networks.InPlace()
    model = insert(net, "se", after=["bn", "add"], example=x, options={"reduction": 2}, init="paper")
    assert not same_bits(run_network(net, x), run_network(model, x))
    with bypassed(made.block for made in list_grafts(model)):
        assert same_bits(run_network(net, x), run_network(model, x))


def test_sites_on_both_sides_in_one_call(x: Tensor) -> None:
    model = insert(toy_networks.InPlace(), "eca", after=["bn"], before=["conv2", "relu_1"], example=x)
    assert [(made.graft.site, made.graft.side) for made in list_grafts(model)] == [
        ("bn", "after"),
        ("conv2", "before"),
        ("relu_1", "before"),
    ]


@pytest.mark.parametrize(
    ("error", "block", "after", "options"),
    [
        (BlockError, "sé", "bn", {}),
        (BlockError, "se", "bn", {"reduction": 0}),
        (SelectorError, "se", "nowhere", {"reduction": 2}),
        (SelectorError, "se", [], {"reduction": 2}),
        (SelectorError, "se", ["bn", "nowhere"], {"reduction": 2}),
        (PlanError, "mdaf", "bn", {"heads": 3}),
    ],
)
def test_errors_come_before_any_change(
    error: type[Exception], block: str, after: str | list[str], options: dict[str, int], x: Tensor
) -> None:
    net = toy_networks.InPlace()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(error):
        insert(net, block, after=after, example=x, options=options, inplace=True)
    assert type(net) is toy_networks.InPlace
    assert list_grafts(net) == []
    assert same_bits(before, net.state_dict())


def test_strict_makes_all_or_nothing(x: Tensor) -> None:
    net = toy_networks.Root(toy_networks.Residual())
    sites = ["stage", "mean"]
    with pytest.raises(PlanError, match="after mean: cbam needs more than one position"):
        insert(net, "cbam", after=sites, example=x, options={"reduction": 2}, strict=True, inplace=True)
    assert list_grafts(net) == []
    made = list_grafts(insert(net, "cbam", after=sites, example=x, options={"reduction": 2}))
    assert [each.graft.site for each in made] == ["stage"]


def test_result_has_the_inserted_grafts_and_the_refused_sites(x: Tensor) -> None:
    net = toy_networks.Root(toy_networks.Residual())
    done = insert_block(net, BlockSpec("cbam", {"reduction": 2}), Selection(after=("{stage,mean}",)), x)
    assert [graft.site for graft in done.plan.grafts] == ["stage"]
    assert [(refusal.site, refusal.side) for refusal in done.plan.refusals] == [("mean", "after")]
    assert list(done.plan.grafts) == [made.graft for made in list_grafts(done.model)]


def test_the_same_place_under_two_names_is_grafted_once(x: Tensor) -> None:
    planned = plan_insertion(toy_networks.Stages(toy_networks.call), SE, Selection(after=("stage.2", "stage")), x)
    assert [graft.site for graft in planned.grafts] == ["stage.2"]
    assert planned.refusals[0].reason == "it is the same place as stage.2, which is chosen already"


def test_site_chosen_twice_is_grafted_once(x: Tensor) -> None:
    planned = plan_insertion(toy_networks.InPlace(), SE, Selection(after=("bn", "bn*", "bn")), x)
    assert [graft.site for graft in planned.grafts] == ["bn", "bn2"]
    assert planned.refusals == ()


def test_plan_changes_nothing_and_counts_parameters(x: Tensor) -> None:
    net = toy_networks.InPlace()
    before = copy.deepcopy(net.state_dict())
    (graft,) = plan_insertion(net, SE, Selection(before=("bn",)), x).grafts
    assert graft.parameters == 2 * 4 * 2 + 4 + 2
    assert (graft.site, graft.side, graft.calls, graft.feature.shape) == ("bn", "before", 1, (2, 4, 8, 8))
    assert type(net) is toy_networks.InPlace
    assert same_bits(before, net.state_dict())


def test_a_network_without_weights_is_refused_by_its_cause() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
    for device in ("cpu", "meta"):
        with pytest.raises(SourceError, match="on the meta device, so it has no weights"):
            insert(net, "se", after="0", example=torch.zeros(1, 4, 8, 8, device=device))


def test_remove_of_all_is_the_default(x: Tensor) -> None:
    net = toy_networks.InPlace()
    model = insert(net, "eca", after=["bn", "add"], example=x)
    assert list_grafts(remove(model)) == []
    assert len(list_grafts(model)) == 2


class TwoModes(nn.Module):
    """Has a part that runs in train mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.aux = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y + self.aux(x) if self.training else y


def test_error_distinguishes_modules_not_called_in_eval_mode_from_unknown_ones(x: Tensor) -> None:
    with pytest.raises(SelectorError, match="'aux' is there, but is not called in eval mode"):
        insert(TwoModes(), "se", after="aux", example=x, options={"reduction": 2})


def test_one_error_lists_all_selectors_that_choose_nothing(x: Tensor) -> None:
    with pytest.raises(SelectorError, match=r"'convv'.*did you mean conv.*'nope'"):
        insert(TwoModes(), "se", after=["convv", "conv"], before="nope", example=x, options={"reduction": 2})


def test_remove_takes_several_selectors(x: Tensor) -> None:
    model = insert(toy_networks.InPlace(), "se", after=["conv", "bn", "add"], example=x, options={"reduction": 2})
    left = list_grafts(remove(model, ["conv", "add"]))
    assert [made.graft.site for made in left] == ["bn"]


@pytest.mark.parametrize("wrong", [1, [1], None])
def test_sites_are_named_by_text(x: Tensor, wrong: object) -> None:
    with pytest.raises(SelectorError, match="named by strings"):
        insert(toy_networks.InPlace(), "se", after=wrong, example=x)  # type: ignore[arg-type]


def test_blocks_are_named_by_text(x: Tensor) -> None:
    with pytest.raises(BlockError, match=r"named by a string.*register_block\('mine', MyBlock\)"):
        insert(toy_networks.InPlace(), nn.Identity(), after="bn", example=x)  # type: ignore[arg-type]
    with pytest.raises(BlockError, match=r"register_block\('mine', Identity\)"):
        insert(toy_networks.InPlace(), nn.Identity, after="bn", example=x)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [insert, plan])
def test_an_option_of_the_block_as_a_keyword_is_refused_with_a_hint(function: Callable[..., Any], x: Tensor) -> None:
    with pytest.raises(TypeError) as caught:
        function(toy_networks.InPlace(), "se", after="bn", example=x, reduction=8)
    hint = "options of the block are passed as options={'reduction': 8}"
    assert isinstance(caught.value, SurgeonError)
    assert str(caught.value) == f"{function.__name__} has no argument 'reduction'; {hint}"
    with pytest.raises(SurgeonError, match=r"did you mean after\? options of the block"):
        function(toy_networks.InPlace(), "se", afer="bn", example=x)


def test_a_second_block_at_a_site_is_added(x: Tensor) -> None:
    once = insert(toy_networks.InPlace(), "se", after="bn", example=x, options={"reduction": 2})
    twice = insert(once, "se", after="bn", example=x, options={"reduction": 2})
    assert [made.graft.place for made in list_grafts(twice)] == ["after bn", "after bn"]
    with ran(twice) as not_run:
        twice(x)
    assert not_run == set()


def test_only_modules_are_operated_on(x: Tensor) -> None:
    with pytest.raises(SourceError, match="a str cannot be operated on"):
        insert("demo", "se", after="conv", example=x)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_scripted_modules_are_not_operated_on(x: Tensor) -> None:
    with pytest.raises(SourceError, match="before it is scripted"):
        insert(torch.jit.trace(nn.Conv2d(4, 4, 1), x), "se", after="conv", example=x)  # type: ignore[no-untyped-call]


def test_a_block_of_two_inputs_with_only_one_at_hand_is_noted() -> None:
    net, example = trunks.UNet(), torch.zeros(1, 3, 32, 32)
    noted = plan_insertion(net, BlockSpec("cross"), Selection(after=("enc1", "enc2")), example)
    (note,) = noted.notes
    assert for_python(note) == (
        "cross takes two tensors, and gets the same one twice after enc1, after enc2; "
        "name the other one with with_=SITE, or choose at=fusions"
    )
    assert plan_insertion(net, BlockSpec("cross"), Selection(at=("fusions",)), example).notes == ()
    assert plan_insertion(net, BlockSpec("se"), Selection(after=("enc1",)), example).notes == ()


def test_plan_lists_the_grafts_that_insert_makes(x: Tensor) -> None:
    net = toy_networks.InPlace()
    before = copy.deepcopy(net.state_dict())
    planned = plan(net, "se", after=["bn", "add"], example=x, options={"reduction": 2})
    made = list_grafts(insert(net, "se", after=["bn", "add"], example=x, options={"reduction": 2}))
    assert [graft.place for graft in planned.grafts] == [item.place for item in made]
    assert same_bits(list(before.values()), list(net.state_dict().values()))
    assert list_grafts(net) == []
