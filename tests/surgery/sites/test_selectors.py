"""Choosing sites by text."""

from __future__ import annotations

import pytest

from attn_surgeon.errors import SelectorError
from attn_surgeon.surgery.sites.selectors import matches, select
from attn_surgeon.surgery.sites.survey import find_sites
from tests import toy_networks

from ..helpers import image

NAMES = ["stem", "layer1", "layer1.0", "layer1.0.conv", "layer1.0.add_1", "layer2", "layer2.1.conv", "layer10", "a[b]"]


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("layer1", ["layer1"]),
        ("layer1.0", ["layer1.0"]),
        ("layer?", ["layer1", "layer2"]),
        ("layer*", ["layer1", "layer2", "layer10"]),
        ("layer*.*", ["layer1.0"]),
        ("*", ["stem", "layer1", "layer2", "layer10", "a[b]"]),
        ("**", NAMES),
        ("layer1.**", ["layer1.0", "layer1.0.conv", "layer1.0.add_1"]),
        ("**.conv", ["layer1.0.conv", "layer2.1.conv"]),
        ("layer[12]", ["layer1", "layer2"]),
        ("layer[1-9]", ["layer1", "layer2"]),
        ("layer[!1]", ["layer2"]),
        ("layer{1,10}", ["layer1", "layer10"]),
        ("{stem,layer1.*}", ["stem", "layer1.0"]),
        ("layer{?,1}.?.con?", ["layer1.0.conv", "layer2.1.conv"]),
        ("LAYER1", []),
        ("layer", []),
        ("layer1.", []),
        ("layer1x0", []),
    ],
)
def test_globs(selector: str, chosen: list[str]) -> None:
    assert [name for name in NAMES if matches(name, selector)] == chosen


def test_dots_and_brackets_of_a_path_are_no_pattern() -> None:
    assert not matches("layer1x0", "layer1.0")
    assert matches("a+b", "a+b")


def test_order_is_that_of_execution() -> None:
    sites = find_sites(toy_networks.SharedRelu(), image())
    assert [site.name for site in select(sites, "{c,a,relu_*}")] == ["a", "relu_1", "c", "relu_2"]


def test_a_miss_names_the_nearest_sites() -> None:
    sites = find_sites(toy_networks.Stages(toy_networks.call), image())
    with pytest.raises(SelectorError) as caught:
        select(sites, "stage.0.covn")
    assert caught.value.what == "no site is called 'stage.0.covn'"
    assert caught.value.hint.startswith("did you mean stage.0.conv")


def test_a_name_unlike_all_others_hints_how_to_list_them() -> None:
    with pytest.raises(SelectorError, match=r"list them with attn_surgeon.find_sites\(network, example\)"):
        select(find_sites(toy_networks.Residual(), image()), "qqqqqqqq")


def test_a_range_that_runs_down_is_an_error_in_words() -> None:
    with pytest.raises(SelectorError, match="bad character range"):
        matches("layer1", "layer[2-1]")
