"""`remove`: which grafts it chooses, in the words that `insert` chooses sites by."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.errors import SelectorError
from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import list_grafts
from tests.toy_networks import trunks

ALL = [
    "before layer1.0.conv1",
    "after layer1.0.bn2",
    "after layer1.1.bn2",
    "after layer2.0.bn2",
    "after layer2.1.bn2",
    "after layer2",
]


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def operated(x: Tensor) -> nn.Module:
    sites: dict[str, Any] = {"at": "residual", "after": "layer2", "before": "layer1.0.conv1"}
    return insert(trunks.ResNet(), "eca", example=x, **sites)


def left(model: nn.Module, *sites: str, **keywords: Any) -> set[str]:
    return {graft.place for graft in list_grafts(remove(model, *sites, **keywords))}


@pytest.mark.parametrize(
    ("keywords", "removed"),
    [
        ({}, ALL),
        ({"at": "residual"}, ALL[1:5]),
        ({"at": "residual@layer2"}, ALL[3:5]),
        ({"at": ["stage"]}, ALL[5:]),
        ({"after": "layer2"}, ALL[5:]),
        ({"before": "layer1.**"}, ALL[:1]),
        ({"after": "layer1.**", "before": "**"}, ALL[:3]),
        ({"sites": "layer1.**"}, ALL[:3]),
        ({"sites": "layer1.0.**", "after": "layer2"}, [*ALL[:2], ALL[5]]),
        ({"exclude": "layer2"}, ALL[:3]),
        ({"at": "residual", "exclude": ["layer1.0", "layer2.1"]}, ALL[2:4]),
        ({"sites": []}, []),
    ],
)
def test_grafts_are_chosen_as_sites_are(
    operated: nn.Module, x: Tensor, keywords: dict[str, Any], removed: list[str]
) -> None:
    assert left(operated, example=x, **keywords) == set(ALL) - set(removed)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"after": "layer1.0.conv1"}, "no graft is after 'layer1.0.conv1'; the network has 6 grafts; did you mean"),
        ({"before": "layer2"}, "no graft is before 'layer2'; the network has 6 grafts"),
        ({"sites": "layr2"}, "no graft is at 'layr2'; the network has 6 grafts; did you mean layer2"),
        ({"at": "convs"}, "no graft is in the group 'convs'; the network has 6 grafts"),
        ({"at": "residuals"}, "no group is called 'residuals'; at; did you mean residual?"),
    ],
)
def test_what_chooses_no_graft_is_refused(
    operated: nn.Module, x: Tensor, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(SelectorError) as caught:
        remove(operated, example=x, **keywords)
    assert str(caught.value).startswith(message)


def test_a_network_without_grafts_says_so(x: Tensor) -> None:
    for sites in (None, "layer1"):
        with pytest.raises(SelectorError) as caught:
            remove(trunks.ResNet(), sites)
        assert str(caught.value).startswith("the network has no grafts; ")


def test_groups_need_an_example(operated: nn.Module) -> None:
    with pytest.raises(SelectorError, match="groups are found by running the network; at; pass an input"):
        remove(operated, at="residual")


def test_blocks_moved_before_a_join_are_in_its_group(x: Tensor) -> None:
    unet = insert(trunks.UNet(), "gate", at="fusions", example=x)
    assert {graft.place for graft in list_grafts(unet)} == {"before cat:0", "before cat_1:0"}
    assert left(unet, at="fusions@cat", example=x) == {"before cat_1:0"}
