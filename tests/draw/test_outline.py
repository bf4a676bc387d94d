"""The outline: what is folded, what is opened, and under which names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from attn_surgeon import insert
from attn_surgeon.draw.outline import OutlineEntry, build_outline, choose_opened, outline_rows
from attn_surgeon.surgery.sites.selectors import matches
from attn_surgeon.surgery.sites.survey import survey

STEM = ["conv1", "bn1", "relu", "maxpool"]


class Unit(nn.Module):
    """A convolution with its own shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv(x)
        return out


def chain(*channels: int) -> nn.Module:
    """Put units after one another; where the channels change, a 1×1 convolution goes between."""
    modules: list[nn.Module] = []
    for index, width in enumerate(channels):
        if index and width != channels[index - 1]:
            modules.append(nn.Conv2d(channels[index - 1], width, 1))
        modules.append(Unit(width))
    return nn.Sequential(*modules)


def small(model: nn.Module) -> OutlineEntry:
    return build_outline(survey(model, torch.randn(1, 4, 8, 8)))


@pytest.fixture(scope="module")
def resnet() -> Iterator[OutlineEntry]:
    yield build_outline(survey(resnet50(weights=None).eval(), torch.randn(1, 3, 64, 64)))


def shown(root: OutlineEntry, limit: int, depth: int | None = None) -> list[str]:
    return [entry.name for entry, _ in outline_rows(root, choose_opened(root, limit, depth), depth)]


def test_resnet50_is_folded_to_a_screen(resnet: OutlineEntry) -> None:
    stages = [
        name
        for stage, last in ((1, 2), (2, 3), (3, 5), (4, 2))
        for name in (f"layer{stage}", f"layer{stage}.0", f"layer{stage}.{{1..{last}}}")
    ]
    assert shown(resnet, 40) == [*STEM, *stages, "avgpool", "flatten", "fc"]


def test_folded_modules_are_all_counted(resnet: OutlineEntry) -> None:
    (run,) = [entry for entry in resnet.walk() if entry.name == "layer3.{1..5}"]
    block = sum(parameter.numel() for parameter in resnet50(weights=None).layer3[1].parameters())
    assert run.names == tuple(f"layer3.{index}" for index in range(1, 6))
    assert run.parameters == 5 * block
    assert run.groups == ("blocks",)
    inner = next(entry for entry in run.children if entry.name.endswith(".bn3"))
    assert inner.name == "layer3.{1..5}.bn3"
    assert inner.names == tuple(f"layer3.{index}.bn3" for index in range(1, 6))


def test_the_name_of_folded_modules_is_a_selector() -> None:
    named = [name for name in (f"layer3.{index}.bn3" for index in range(12)) if matches(name, "layer3.{9..11}.bn3")]
    assert named == ["layer3.9.bn3", "layer3.10.bn3", "layer3.11.bn3"]


def test_depth_opens_by_levels(resnet: OutlineEntry) -> None:
    assert shown(resnet, 40, depth=1) == [
        *STEM,
        *(f"layer{stage}" for stage in (1, 2, 3, 4)),
        "avgpool",
        "flatten",
        "fc",
    ]
    assert "layer1.{1..2}.bn3" in shown(resnet, 40, depth=3)
    assert "layer1.{1..2}.bn3" not in shown(resnet, 40, depth=2)


def test_few_rows_leave_all_closed(resnet: OutlineEntry) -> None:
    assert shown(resnet, 5) == shown(resnet, 40, depth=1)


def test_only_neighbours_built_alike_are_folded() -> None:
    assert [entry.name for entry in small(chain(4, 4, 6, 6, 6)).children] == ["{0..1}", "2", "{3..5}"]
    mixed = nn.Sequential(Unit(4), nn.Identity(), Unit(4))
    assert [entry.name for entry in small(mixed).children] == ["0", "1", "2"]


def test_neighbours_in_other_groups_are_not_folded_where_groups_are_shown() -> None:
    entries = build_outline(survey(chain(4, 4, 6, 6, 6), torch.randn(1, 4, 8, 8)), by_groups=True).children
    assert [(entry.name, "head" in entry.groups) for entry in entries][-2:] == [("{3..4}", False), ("5", True)]


def test_a_graft_sets_a_module_apart() -> None:
    operated = insert(chain(4, 4, 4, 4), block="eca", after="2.conv", example=torch.randn(1, 4, 8, 8))
    parts = {entry.name: entry.all_grafts for entry in small(operated).children}
    assert parts == {"{0..1}": (), "2": ("eca after 2.conv",), "3": ()}
