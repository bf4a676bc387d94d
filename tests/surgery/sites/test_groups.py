"""The groups of sites, by exact name and side, on networks built like the families people use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.surgery.sites.survey import survey
from tests.toy_networks import trunks

from ..helpers import after, image, members


@pytest.mark.parametrize(
    ("net", "stages"),
    [
        (trunks.ResNet, ["relu", "layer1", "layer2"]),
        (trunks.MobileNet, ["features.1", "features.3", "features"]),
        (trunks.NarrowStages, ["blocks.0", "blocks.1", "blocks"]),
        (partial(trunks.NarrowStages, mixed=True), ["blocks.0", "blocks.1", "blocks"]),
        (partial(trunks.Swin, at_end=False), ["stage1", "norm"]),
        (partial(trunks.Swin, at_end=True), ["stage1.blocks", "norm"]),
        (trunks.VGG, ["features.1", "features.4", "features"]),
        (trunks.FlatEnd, ["stage1", "norm"]),
        (trunks.UNet, ["enc1", "enc2", "enc3"]),
        (trunks.RepVGGNet, ["stage0", "stage1", "stage2"]),
        (trunks.TwoHeads, ["stage1", "stage2"]),
        (partial(trunks.ClassToken, token=True), ["blocks.1"]),
        (partial(trunks.ClassToken, token=False), ["getitem_1"]),
    ],
)
def test_stages(net: Callable[[], nn.Module], stages: list[str]) -> None:
    assert members(net(), "stages") == after(*stages)


@pytest.mark.parametrize(
    ("net", "head"),
    [
        (trunks.ResNet, ["layer2"]),
        (trunks.MobileNet, ["features"]),
        (partial(trunks.Swin, at_end=False), ["norm"]),
        (trunks.VGG, ["features"]),
        (trunks.UNet, ["dec1"]),
        (trunks.RepVGGNet, ["stage2"]),
        (trunks.TwoHeads, ["stage1", "stage2"]),
        (partial(trunks.ClassToken, token=True), ["blocks.1"]),
        (partial(trunks.ClassToken, token=False), ["getitem_1"]),
    ],
)
def test_heads(net: Callable[[], nn.Module], head: list[str]) -> None:
    assert members(net(), "head") == after(*head)


class ComputesOnce(trunks.ClassToken):
    """A network that does more in its first run with images of a size, as if it computed anchors."""

    def __init__(self) -> None:
        super().__init__(token=True)
        self.seen: set[torch.Size] = set()

    def forward(self, x: Tensor) -> Tensor:
        if x.shape not in self.seen:
            self.seen.add(x.shape)
            x = x * 1 + 0 * x.mean()
        return super().forward(x)


def test_what_a_network_computes_in_its_first_run_only_changes_no_group() -> None:
    assert members(ComputesOnce(), "stages") == after("blocks.1")
    assert members(ComputesOnce(), "head") == after("blocks.1")


@pytest.mark.parametrize(
    "act",
    [
        nn.ReLU,
        nn.SiLU,
        nn.GELU,
        nn.Hardswish,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.ELU,
        nn.PReLU,
    ],
)
def test_a_backbone_without_classifier_has_its_original_heads_after_removal(act: type[nn.Module]) -> None:
    assert members(trunks.Backbone(act), "head") == after("stage1", "stage2")
    assert members(trunks.Backbone(act), "stages") == after("stage1", "stage2")


def test_a_class_token_leaves_the_last_blocks_places_unread() -> None:
    groups = survey(trunks.ClassToken(token=True), image(2, 3, 64)).groups
    inside = [f"blocks.{n}.{branch}" for n in range(2) for branch in ("attn", "mlp")]
    assert list(groups["residual"]) == after(*inside)
    assert list(groups["blocks"]) == after("blocks.0", "blocks.1")


def test_what_the_class_token_of_the_last_block_is_made_of_is_read() -> None:
    """The groups say so of blocks.1 and not of blocks.2; the output agrees."""
    net, x = trunks.ClassToken(token=True).eval(), image(2, 3, 64)
    reads = {}
    for name in ("blocks.1", "blocks.2"):
        handle = net.get_submodule(name).register_forward_hook(
            lambda _, __, output: torch.cat((output[:, :1], output[:, 1:] + 1), 1)
        )
        reads[name] = net(x)
        handle.remove()
    assert not torch.equal(reads["blocks.1"], net(x))
    assert torch.equal(reads["blocks.2"], net(x))


def test_blocks_and_residuals_of_a_network_with_stages() -> None:
    groups = survey(trunks.ResNet(), image(2, 3, 64)).groups
    blocks = [f"layer{stage}.{n}" for stage in (1, 2) for n in (0, 1)]
    assert list(groups["blocks"]) == after(*blocks)
    assert list(groups["residual"]) == after(*(f"{name}.bn2" for name in blocks))
    groups = survey(trunks.MobileNet(), image(2, 3, 64)).groups
    assert list(groups["blocks"]) == after("features.1", "features.3")
    assert list(groups["residual"]) == after("features.1.conv", "features.3.conv")


@pytest.mark.parametrize(
    ("net", "convs"),
    [
        (trunks.Convs, ["whole", "silu"]),
        (trunks.VGG, ["features.1", "features.4"]),
        (trunks.UNet, ["enc1", "enc2", "enc3", "dec2", "dec1"]),
        (
            trunks.ResNet,
            ["relu", "layer1.0.relu", "layer1.1.relu", "layer2.0.relu", "layer2.1.relu"],
        ),
        (partial(trunks.Swin, at_end=False), []),
    ],
)
def test_convs(net: Callable[[], nn.Module], convs: list[str]) -> None:
    assert members(net(), "convs") == after(*convs)


@pytest.mark.parametrize(
    ("up", "name"),
    [
        (nn.Upsample(scale_factor=2), "up"),
        (nn.UpsamplingBilinear2d(scale_factor=2), "up"),
        (nn.ConvTranspose2d(12, 6, 2, 2), "up"),
        (nn.Sequential(nn.ConvTranspose2d(12, 6, 2, 2), nn.ReLU()), "up.0"),
        (nn.PixelShuffle(2), "up"),
        (partial(F.interpolate, scale_factor=2.0), "interpolate"),
        (partial(F.pixel_shuffle, upscale_factor=2), "pixel_shuffle"),
    ],
)
def test_upsamples(up: Callable[[Tensor], Tensor], name: str) -> None:
    net = trunks.Enlarged(up)
    assert members(net, "upsamples") == after(name)


def test_sites_have_their_groups() -> None:
    found = survey(trunks.ResNet(), image(2, 3, 64))
    belongs = {site.name: site.groups for site in found.sites if site.groups}
    assert belongs["layer2"] == ("stages", "head")
    assert belongs["layer1.1.bn2"] == ("residual",)
    assert "layer1.1.conv1" not in belongs
    listed = {group: {name for name, _ in names} for group, names in found.groups.items()}
    told = {group: {name for name, groups in belongs.items() if group in groups} for group in listed}
    assert told == listed


class Alone(nn.Module):
    """A network that takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seed, self.conv = nn.Parameter(torch.randn(1, 4, 8, 8)), nn.Conv2d(4, 4, 1)

    def forward(self) -> Tensor:
        made: Tensor = self.conv(self.seed)
        return made


def test_a_network_without_inputs_has_sites_but_no_groups() -> None:
    found = survey(Alone(), ())
    assert [site.name for site in found.sites] == ["conv"]
    assert not any(found.groups.values())
