"""Side branches are no stages, and what only conditions a branch does not hide that it is one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from attn_surgeon.surgery.sites.survey import survey
from tests.toy_networks import detours, trunks

from ..helpers import after, image, members

ENCODER = ["encoder.stage1", "encoder.stage2"]
SIDES: list[Callable[[], nn.Module]] = [
    detours.Gated,
    detours.Pooling,
    partial(detours.Pooling, width=32),
    partial(detours.Pooling, fixed=False),
    detours.Reduced,
    partial(detours.Reduced, grid=4),
]
MIXINGS = [detours.added, detours.spread, detours.modulated, detours.gated]


@pytest.mark.parametrize("neck", [*SIDES, detours.Local])
def test_side_branches_of_a_classifier(neck: Callable[[], nn.Module]) -> None:
    found = survey(detours.Classifier(neck()), image(2, 3, 128))
    assert list(found.groups["stages"]) == after(*ENCODER, "neck")
    assert list(found.groups["head"]) == after("neck")


@pytest.mark.parametrize("neck", SIDES)
def test_side_branches_between_an_encoder_and_its_decoder(neck: Callable[[], nn.Module]) -> None:
    found = survey(detours.Decoded(neck()), image(2, 3, 128))
    *stages, last = found.groups["stages"]
    assert stages == after(*ENCODER)
    assert last[0] in ("encoder.stage3", "neck", "neck.main", "neck.out")
    feature = found.by_name[last[0]].output
    assert feature is not None
    assert (feature.channels, feature.positions) == (32, 16**2)


def test_the_way_down_of_an_encoder_is_no_side_branch() -> None:
    assert members(detours.Decoded(nn.Identity()), "stages", image(2, 3, 128)) == after(*ENCODER, "encoder.stage3")
    assert members(trunks.UNet(), "stages") == after("enc1", "enc2", "enc3")


def test_blocks_that_end_with_the_downsampling() -> None:
    assert members(detours.Blocks(), "stages") == after("blocks.0.2", "blocks.1.2", "blocks.2.2", "blocks")


@pytest.mark.parametrize("mixing", MIXINGS)
def test_blocks_with_a_time_embedding(mixing: detours.Mixing) -> None:
    found = survey(detours.Diffusion(mixing), (image(2, 3, 32), torch.tensor([3, 5])))
    blocks = ("down1", "down2", "mid", "up")
    assert list(found.groups["residual"]) == after(*(f"{name}.conv2" for name in blocks))
    assert list(found.groups["blocks"]) == after(*blocks)
    assert list(found.groups["stages"]) == after("down2", "mid")


def test_a_branch_that_attends_to_another_input() -> None:
    found = survey(detours.Crossed(), (image(2, 3, 64), torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.long)))
    assert list(found.groups["residual"]) == after("proj")
    assert [name for name, _ in found.groups["stages"]] == ["add"]


def test_a_branch_that_is_reshaped_where_nothing_can_be_put() -> None:
    assert members(detours.Inline(), "residual") == after("attend.proj")


def test_the_projection_of_an_attention_that_pools_is_past_the_head() -> None:
    assert members(detours.AttentionPooled(), "head") == after("norm")
    assert members(detours.AttentionPooled(), "stages") == after("norm")
    assert members(detours.AttentionPooled(1), "head") == after("norm")
