"""Choosing sites by groups and selectors, and filtering what they choose."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.errors import PlanError, SelectorError
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.rewrite.placement import Side
from attn_surgeon.surgery.sites.selection import Selection, choose
from attn_surgeon.surgery.sites.selectors import is_within, matches, select
from attn_surgeon.surgery.sites.survey import Survey, find_sites, survey
from tests.toy_networks import Chunks, trunks

from ..helpers import after, image

BRANCHES = [f"layer{stage}.{n}.bn2" for stage in (1, 2) for n in (0, 1)]


@functools.cache
def resnet() -> Survey:
    return survey(trunks.ResNet(), torch.zeros(1, 3, 32, 32))


@functools.cache
def unet() -> Survey:
    return survey(trunks.UNet(), torch.zeros(1, 3, 32, 32))


def chosen(found: Survey, **selection: Any) -> list[tuple[str, Side]]:
    return [(site.name, side) for site, side in choose(found, Selection.read(**selection))]


def refused(found: Survey, **selection: Any) -> SelectorError:
    with pytest.raises(SelectorError) as caught:
        chosen(found, **selection)
    return caught.value


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ({"at": "residual"}, BRANCHES),
        ({"at": "residual@layer2"}, BRANCHES[2:]),
        ({"at": "residual@layer?.0"}, BRANCHES[::2]),
        ({"at": "residual@layer1.1.bn2"}, BRANCHES[1:2]),
        ({"at": "residual@**.1.**"}, BRANCHES[1::2]),
        ({"at": ["residual@layer2", "residual@layer1"]}, BRANCHES[2:] + BRANCHES[:2]),
        ({"at": ["head", "stages"]}, ["layer2", "relu", "layer1"]),
        ({"at": "residual", "exclude": "layer1"}, BRANCHES[2:]),
        ({"at": "residual", "exclude": ["**.0", "layer2.1.bn2"]}, BRANCHES[1:2]),
        ({"after": "layer1.**", "exclude": "layer1.{0,1}"}, None),
        ({"at": "residual", "min_channels": 16}, BRANCHES[2:]),
        ({"at": "residual", "min_channels": 8}, BRANCHES),
        ({"at": "residual", "every": 2}, BRANCHES[::2]),
        ({"at": "residual", "every": 3}, [BRANCHES[0], BRANCHES[3]]),
        ({"at": "residual", "last": 1}, BRANCHES[3:]),
        ({"at": "residual", "last": 9}, BRANCHES),
        ({"at": "residual", "every": 2, "last": 1}, [BRANCHES[2]]),
        ({"at": "residual", "exclude": "layer1.0", "every": 2}, [BRANCHES[1], BRANCHES[3]]),
        ({"at": "residual", "min_channels": 16, "every": 2}, [BRANCHES[2]]),
        ({"at": "residual", "exclude": "layer2.0", "every": 2, "last": 1}, [BRANCHES[3]]),
        ({"after": "layer2.{0..1}"}, ["layer2.0", "layer2.1"]),
        ({"after": "layer{2..9}"}, ["layer2"]),
        ({"after": ["layer2", "layer1", "layer2"]}, ["layer2", "layer1"]),
        ({"at": "head", "after": "layer1"}, ["layer2", "layer1"]),
    ],
)
def test_what_is_chosen_and_in_which_order(selection: dict[str, Any], names: list[str] | None) -> None:
    if names is None:
        assert refused(resnet(), **selection).what == "the filters leave none of the chosen sites"
    else:
        assert chosen(resnet(), **selection) == after(*names)


def test_groups_bring_their_own_sides() -> None:
    assert chosen(unet(), at="skips") == [("cat:1", "before"), ("cat_1:1", "before")]
    assert chosen(unet(), at="skips@cat") == [("cat:1", "before")]
    assert chosen(unet(), at="skips@cat_1:1") == [("cat_1:1", "before")]
    assert chosen(unet(), at=["skips", "fusions"], exclude="cat_1") == [("cat:1", "before"), ("cat", "after")]
    both = chosen(unet(), after="enc2", before="enc2")
    assert both == [("enc2", "after"), ("enc2", "before")]


def test_width_is_that_of_the_side() -> None:
    assert chosen(unet(), before="dec*", min_channels=16) == [("dec2", "before"), ("dec1", "before")]
    assert refused(unet(), after="dec*", min_channels=16).where == "2 were chosen"


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"at": "residuals"}, "no group is called 'residuals'; at; did you mean residual?"),
        ({"at": "layer1"}, "no group is called 'layer1'; at; the groups are stages, blocks, residual"),
        ({"at": "skips"}, "the network has no skips; at; it has stages, blocks, residual, head, convs"),
        (
            {"at": "residual@layer3.0.bn2"},
            "'residual@layer3.0.bn2' names none of the group; it has 4 members; did you mean layer",
        ),
        (
            {"at": "residual@qqqqqqqqqqqqq"},
            "names none of the group; it has 4 members; its members are layer1.0.bn2, layer1.1.bn2",
        ),
        ({"at": "residual@layer[2-1]"}, "'layer[2-1]' is an invalid pattern"),
        ({"after": "layr1"}, "no site is called 'layr1'; the network has 45 sites; did you mean layer1"),
        ({"at": "residual", "exclude": "**"}, "the filters leave none of the chosen sites; 4 were chosen; relax them"),
        ({"at": "residual", "min_channels": 17}, "the filters leave none of the chosen sites; 4 were chosen"),
        ({"at": "head", "exclude": "[b-a]"}, "'[b-a]' is an invalid pattern"),
    ],
)
def test_a_selector_without_matches_reports_why(selection: dict[str, Any], message: str) -> None:
    text = str(refused(resnet(), **selection)).replace(f"{len(resnet().sites)} sites", "45 sites")
    assert message in text


def test_all_faults_are_reported_together() -> None:
    text = str(refused(resnet(), at=["heads", "residual"], after="layr1", before="layr2"))
    assert "no group is called 'heads' (did you mean head" in text
    assert "no site is called 'layr1'" in text
    assert "no site is called 'layr2'" in text
    assert "residual'" not in text


@pytest.mark.parametrize(
    ("selection", "what"),
    [
        ({}, "no site is named"),
        ({"at": ()}, "no site is named"),
        ({"at": 3}, "sites are named by strings, not by 3"),
        ({"at": None}, "sites are named by strings, not by None"),
        ({"after": ["layer1", 2]}, "sites are named by strings, not by ['layer1', 2]"),
        ({"at": "head", "exclude": [None]}, "sites are named by strings, not by [None]"),
        ({"at": "head", "min_channels": -1}, "min_channels takes a whole number of at least 0, not -1"),
        ({"at": "head", "min_channels": "8"}, "min_channels takes a whole number of at least 0, not '8'"),
        ({"at": "head", "every": 0}, "every takes a whole number of at least 1, not 0"),
        ({"at": "head", "every": 1.5}, "every takes a whole number of at least 1, not 1.5"),
        ({"at": "head", "every": True}, "every takes a whole number of at least 1, not True"),
        ({"at": "head", "last": -2}, "last takes a whole number of at least 0, not -2"),
        ({"at": "head", "layout": "NHCW"}, "no layout is called 'NHCW'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_run(selection: Any, what: str) -> None:
    with pytest.raises(SelectorError) as caught:
        Selection.read(**selection)
    assert caught.value.what == what


def test_a_wrong_layout_is_reported_with_the_nearest() -> None:
    with pytest.raises(SelectorError, match="layout; did you mean NHWC, NDHWC"):
        Selection.read(at="head", layout="NHWCC")


@pytest.mark.parametrize("wrong", [3, None, ["NHWC"]])
def test_names_that_are_no_text(wrong: Any) -> None:
    with pytest.raises(SelectorError, match="with_ takes a string"):
        Selection.read(at="head", with_=wrong)
    with pytest.raises(SelectorError, match="layout takes a string"):
        Selection.read(at="head", layout=wrong)


def test_arguments_that_are_not_known_are_refused() -> None:
    with pytest.raises(TypeError):
        insert(trunks.ResNet(), "se", at="head", example=image(1, 3, 32), min_channel=8)  # type: ignore[call-arg]


class Wrong(nn.Module):
    """Give (N, H, W, C) maps whose sides are as long as their channels, at one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == 32
        return self.fc(self.embed(x).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


def test_another_layout_can_be_asked_for() -> None:
    net, x = Wrong(), image(1, 3, 32)
    (made,) = list_grafts(insert(net, "se", after="fc", example=x, options={"reduction": 2}, layout="NHWC"))
    assert (made.graft.layout, made.graft.feature.layout, made.graft.feature.channels) == ("NHWC", "NHWC", 8)
    y = image(1, 8, 8).permute(0, 2, 3, 1)
    inner = made.block.get_submodule("block")
    with torch.no_grad():
        for weight in made.block.parameters():
            weight.normal_()
        assert torch.equal(made.block(y), inner(y.movedim(-1, 1)).movedim(1, -1))
        assert not torch.equal(made.block(y), inner(y))


def test_a_layout_of_another_rank_is_refused() -> None:
    with pytest.raises(PlanError, match="after fc: NLC has 3 axes, and the tensor there has 4"):
        insert(Wrong(), "se", after="fc", example=image(1, 3, 32), layout="NLC")


NAMES = ["stem", "backbone", "backbone:0", "backbone:1", "cat", "cat:0", "layer1.0", "layer1.0.cat:1", "layer12"]


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("backbone", ["backbone"]),
        ("backbone:0", ["backbone:0"]),
        ("backbone:*", ["backbone:0", "backbone:1"]),
        ("backbone*", ["backbone"]),
        ("*:0", ["backbone:0", "cat:0"]),
        ("**:1", ["backbone:1", "layer1.0.cat:1"]),
        ("backbone:{0..4}", ["backbone:0", "backbone:1"]),
        ("layer{1..12}", ["layer12"]),
        ("layer{2..11}", []),
        ("layer{1..1}.{0..3}", ["layer1.0"]),
        ("layer{3..1}", []),
        ("layer{1..2,12}", ["layer12"]),
    ],
)
def test_items_and_ranges(selector: str, chosen: list[str]) -> None:
    assert [name for name in NAMES if matches(name, selector)] == chosen


def test_items_are_chosen_by_a_colon_only() -> None:
    sites = find_sites(Chunks(), image())
    assert {site.name for site in sites if site.is_item} == {"chunk:0", "chunk:1", "cat:0", "cat:1"}
    assert [site.name for site in select(sites, "**")] == ["conv", "getitem", "getitem_1", "a", "b", "cat"]
    assert [site.name for site in select(sites, "**:0")] == ["chunk:0", "cat:0"]
    with pytest.raises(SelectorError, match="no site is called 'chunk'"):
        select(sites, "chunk")


@pytest.mark.parametrize(
    ("name", "selector", "within"),
    [
        ("layer1", "layer1", True),
        ("layer1.0.conv", "layer1", True),
        ("layer1:0", "layer1", True),
        ("layer10", "layer1", False),
        ("layer1.0", "layer1.0.conv", False),
        ("layer2.3.bn", "layer*", True),
        ("a.layer1", "layer1", False),
        ("a.layer1.x", "**.layer1", True),
        ("ab", "a|b", False),
        ("c", "{a,c}", True),
    ],
)
def test_within(name: str, selector: str, within: bool) -> None:
    assert is_within(name, selector) is within
