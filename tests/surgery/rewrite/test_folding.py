"""Layers whose norm is folded into the convolution before it: grafts in them compute what they did before."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.graft_check import check
from tests.hosts.networks import seeded
from tests.hosts.yolo_v5 import Conv, Yolo

from ..helpers import opened


class InPlace(Yolo):
    """A YOLO that folds as ultralytics does: into the convolution itself, and not what is folded already."""

    def is_fused(self) -> bool:
        return not any(isinstance(module, Conv) and hasattr(module, "bn") for module in self.modules())

    def fuse(self) -> InPlace:
        for module in self.modules():
            if isinstance(module, Conv) and hasattr(module, "bn"):
                conv, bn = module.conv, module.bn
                statistics: Any = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
                conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
                delattr(module, "bn")
                module.forward = module.forward_fuse  # type: ignore[method-assign]
        return self


def plain_conv() -> Conv:
    """Build a convolution with its norm and no activation."""
    conv = Conv(3, 8, 3)
    conv.act = nn.Identity()  # type: ignore[assignment]
    return conv


class Merged(nn.Module):
    """Two convolutions with their norms, which are merged into a third one, as ultralytics' RepConv."""

    merged = "conv"

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = plain_conv(), plain_conv()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1(x) + self.conv2(x)
        return out

    def forward_fuse(self, x: Tensor) -> Tensor:
        out: Tensor = getattr(self, self.merged)(x)
        return out

    @torch.no_grad()
    def fuse_convs(self) -> None:
        folded: list[Any] = [fuse_conv_bn_eval(layer.conv, layer.bn) for layer in (self.conv1, self.conv2)]
        conv: Any = nn.Conv2d(3, 8, 3, padding=1)
        conv.weight.copy_(folded[0].weight + folded[1].weight)
        conv.bias.copy_(folded[0].bias + folded[1].bias)
        del self.conv1, self.conv2
        setattr(self, self.merged, conv)
        self.forward = self.forward_fuse  # type: ignore[method-assign]


class MergedIntoFirst(Merged):
    """Two convolutions of which the first becomes the merged one, as in ultralytics' RepVGGDW."""

    merged = "conv1"


class Branches(nn.Module):
    """A layer that is merged, and a convolution."""

    def __init__(self, layer: type[Merged] = Merged) -> None:
        super().__init__()
        self.both, self.last = layer(), Conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.both(x))
        return out

    def fuse(self) -> Branches:
        for module in self.modules():
            if isinstance(module, Merged):
                module.fuse_convs()
        return self


def branches_into_first() -> Branches:
    return Branches(MergedIntoFirst)


class Dropping(Conv):
    """A convolution with a dropout between it and its norm."""

    def __init__(self) -> None:
        super().__init__(3, 8, 3)
        self.drop = nn.Dropout2d(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.drop(self.conv(x))))
        return out

    def forward_fuse(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.drop(self.conv(x)))
        return out


class Dropped(InPlace):
    """A network whose stem has a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.csp, self.last = Dropping(), nn.Identity(), Conv(8, 4)  # type: ignore[assignment]


def image() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def operated(build: Any = Yolo, **sites: Any) -> Any:
    return opened(seeded(build), example=image(), **sites)


def norms(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


FOLDED = [{"after": "stem.bn"}, {"before": "stem.conv"}, {"after": "stem.act"}, {"after": ["stem.bn", "csp.cv1.bn"]}]
BETWEEN = [{"after": "stem.conv"}, {"before": "stem.bn"}, {"after": ["stem.conv", "stem.bn"]}]


CASES = [*((InPlace, sites) for sites in (*FOLDED, *BETWEEN)), (Yolo, FOLDED[0]), (Yolo, BETWEEN[0])]


@pytest.mark.parametrize(("build", "sites"), CASES, ids=str)
@torch.no_grad()
def test_fusing_keeps_the_output(build: Any, sites: dict[str, Any]) -> None:
    network, x = operated(build, **sites), image()
    expected, plain = network(x), seeded(build)(x)
    assert not torch.allclose(expected, plain, atol=1e-3)
    fused = network.fuse()
    assert norms(fused) == (["stem.bn"] if sites in BETWEEN else [])
    for kept in (fused, copy.deepcopy(fused), pickle.loads(pickle.dumps(fused)), fused.fuse()):
        torch.testing.assert_close(kept(x), expected, atol=1e-5, rtol=1e-4)
        check(kept, x)
    torch.testing.assert_close(fused.double()(x.double()).float(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sites", [FOLDED[0], BETWEEN[0]], ids=str)
@torch.no_grad()
def test_a_copy_that_was_made_before_is_fused_as_well(sites: dict[str, Any]) -> None:
    network, x = operated(**sites), image()
    for kept in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        torch.testing.assert_close(kept.fuse()(x), network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sites", [FOLDED[3], BETWEEN[2]], ids=str)
@torch.no_grad()
def test_grafts_are_removed_from_a_fused_network(sites: dict[str, Any]) -> None:
    restored: Any = remove(operated(**sites).fuse())
    torch.testing.assert_close(restored(image()), seeded(Yolo)(image()), atol=1e-5, rtol=1e-4)
    assert not norms(restored.fuse())


@pytest.mark.parametrize("site", ["stem.bn", "stem.conv", "stem.act"])
@torch.no_grad()
def test_one_of_several_grafts_is_removed_from_a_fused_layer(site: str) -> None:
    network = operated(after=["stem.bn", "stem.act"], before="stem.conv")
    expected: Any = remove(network, site)
    left: Any = remove(network.fuse(), site)
    torch.testing.assert_close(left(image()), expected(image()), atol=1e-5, rtol=1e-4)
    assert len(check(left, image())) == 2


@torch.no_grad()
def test_a_fused_layer_takes_another_graft() -> None:
    network = operated(after="stem.bn").fuse()
    expected = network(image())
    more = insert(network, "se", after=["stem", "csp"], example=image())
    torch.testing.assert_close(more(image()), expected, atol=0, rtol=0)
    assert [graft.place for graft in check(more, image())] == ["after stem.bn", "after stem", "after csp"]


@torch.no_grad()
def test_a_function_of_other_code_folds_norms_before_grafts() -> None:
    network, x = operated(after="stem.bn"), image()
    expected = network(x)
    torch.testing.assert_close(Yolo.fuse(network)(x), expected, atol=1e-5, rtol=1e-4)
    assert not norms(network)


@torch.no_grad()
def test_a_network_is_fused_when_nothing_is_left_to_fold() -> None:
    network = operated(InPlace, after=["stem.conv", "csp.cv1.bn"])
    assert not network.is_fused()
    assert network.fuse().is_fused()
    assert isinstance(network.stem, Conv)
    assert isinstance(network.stem.bn, nn.BatchNorm2d)


@pytest.mark.parametrize("site", ["both.conv1", "both.conv1.conv", "both.conv2.bn"])
@pytest.mark.parametrize("build", [Branches, branches_into_first])
@torch.no_grad()
def test_branches_with_a_graft_are_not_merged(build: Any, site: str) -> None:
    network, x = operated(build, after=site), image()
    expected = network(x)
    torch.testing.assert_close(network.fuse()(x), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(expected, seeded(build)(x), atol=1e-3)


@torch.no_grad()
def test_a_norm_is_not_folded_across_a_graft_and_another_layer() -> None:
    network, x = operated(Dropped, before="stem.drop"), image()
    expected = network(x)
    torch.testing.assert_close(network.fuse()(x), expected, atol=1e-5, rtol=1e-4)
    assert norms(network) == ["stem.bn"]


@torch.no_grad()
def test_branches_before_a_graft_are_merged() -> None:
    network, x = operated(Branches, after="both"), image()
    expected = network(x)
    torch.testing.assert_close(network.fuse()(x), expected, atol=1e-5, rtol=1e-4)
    assert norms(network) == ["last.bn"]


def test_an_error_while_fusing_leaves_the_classes_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Yolo, "fuse", fail)
    network = operated(after="stem.conv")
    with pytest.raises(RuntimeError, match="no"):
        network.fuse()
    assert isinstance(network.stem, Conv)
