"""Modules that other code rebuilds, re-classes, folds or deletes after surgery."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import remove_parametrizations

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.artefact.save import save
from attn_surgeon.errors import LostGraftError
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.graft_check import check
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.rewrite.operated_modules import is_operated
from tests import toy_networks

from ..helpers import block_at, blocks, image, opened


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()


class InForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("site", [{"after": "1"}, {"before": "1"}], ids=str)
@torch.no_grad()
def test_a_norm_in_a_sequential_becomes_another_norm(site: dict[str, str]) -> None:
    model, x = opened(chain(), **site), image()
    expected = model(x)
    converted: Any = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))  # type: ignore[no-untyped-call]
    assert isinstance(converted[1], nn.SyncBatchNorm)
    assert torch.equal(converted(x), expected)
    assert len(check(converted, x)) == 1
    restored: Any = remove(converted)
    assert type(restored[1]) is nn.SyncBatchNorm


@torch.no_grad()
def test_a_folded_norm_keeps_the_graft_behind_it() -> None:
    model: Any = opened(chain(), after="1")
    x = image()
    expected = model(x)
    model[0], model[1] = fuse_conv_bn_eval(model[0], model[1]), nn.Identity()
    assert torch.allclose(model(x), expected, atol=1e-5)
    assert len(list_grafts(model)) == 1


@pytest.mark.parametrize("site", [{"after": "0"}, {"before": "1"}], ids=str)
def test_a_norm_folded_across_a_graft_is_reported(site: dict[str, str]) -> None:
    model: Any = opened(chain(), **site)
    model[0], model[1] = fuse_conv_bn_eval(model[0], model[1]), nn.Identity()
    with pytest.raises(LostGraftError, match="'1', after one, was folded"):
        model(image())


@pytest.mark.parametrize("site", [{"after": "conv"}, {"before": "bn"}], ids=str)
def test_a_norm_folded_across_an_edge_is_reported(site: dict[str, str]) -> None:
    model: Any = opened(InForward().eval(), **site)
    model.conv, model.bn = fuse_conv_bn_eval(model.conv, model.bn), nn.Identity()
    with pytest.raises(LostGraftError, match="folded"):
        model(image())


def test_a_child_that_a_generated_forward_calls_is_deleted() -> None:
    model: Any = opened(InForward().eval(), after="act")
    del model.bn
    with pytest.raises(LostGraftError, match="'bn', which is not there any more"):
        model(image())


def test_a_module_with_its_graft_is_replaced() -> None:
    model, x = opened(toy_networks.Root(toy_networks.Residual()), after="stage"), image()
    model.stage = toy_networks.Residual()
    with pytest.raises(LostGraftError, match="after stage are lost: the module that they belong to is another one"):
        model(x)
    with pytest.raises(LostGraftError, match="after stage"):
        save(model, "never.safetensors")
    with pytest.raises(LostGraftError, match="after stage"):
        check(model, x)
    restored = remove(model)
    assert torch.equal(restored(x), model.fc(model.stage(x).mean((2, 3))))  # type: ignore[operator]
    assert not Path("never.safetensors").exists()


def test_a_network_in_a_wrapper_looks_after_its_grafts_alone() -> None:
    wrapped = nn.ModuleDict({"inner": toy_networks.Root(toy_networks.Residual())})

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = wrapped["inner"]

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)  # type: ignore[no-any-return]

    model: Any = opened(Wrapper(), after="inner.stage")
    inner = model.inner
    inner.stage = toy_networks.Residual()
    with pytest.raises(LostGraftError, match=r"after inner\.stage"):
        inner(image())


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


@torch.no_grad()
def test_a_norm_folded_across_a_wrapped_graft_is_reported() -> None:
    model: Any = opened(chain(), after="0")
    model[0], model[1] = Around(model[0]), nn.Identity()
    with pytest.raises(LostGraftError, match="'1', after one, was folded"):
        model(image())


@torch.no_grad()
def test_a_module_that_another_tool_wraps_is_found_again() -> None:
    model, x = opened(toy_networks.Root(toy_networks.Residual()), after="stage"), image()
    expected = model(x)
    model.stage = Around(model.stage)  # type: ignore[arg-type]
    assert torch.equal(model(x), expected)
    assert [made.owner for made in check(model, x)] == ["stage.inner"]


@torch.no_grad()
def test_a_parametrized_owner_keeps_its_graft(tmp_path: Path) -> None:
    plain, x = chain(), image()
    model: Any = opened(plain, after="0")
    expected = model(x)
    weight_norm(model[0])
    assert torch.allclose(model(x), expected, atol=1e-5)
    (made,) = list_grafts(model)
    assert made.owner == "0"
    save(model, tmp_path / "a.safetensors")
    assert len(read_artefact(tmp_path / "a.safetensors").grafts) == 1
    restored: Any = remove(model)
    assert not is_operated(restored[0])
    assert torch.allclose(restored(x), plain(x), atol=1e-5)
    remove_parametrizations(model[0], "weight")
    assert torch.allclose(model(x), expected, atol=1e-5)
    assert type(remove(model)[0]) is nn.Conv2d  # type: ignore[index]


@torch.no_grad()
def test_another_class_keeps_grafts_at_its_ends() -> None:
    class Doubling(toy_networks.Residual):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    model, x = opened(toy_networks.Root(toy_networks.Residual()), after="stage", before="stage"), image()
    enter, leave = block_at(model, "stage", "before"), block_at(model, "stage", "after")
    stage = model.get_submodule("stage")
    stage.__class__ = Doubling
    assert isinstance(stage, Doubling)
    assert torch.equal(stage(x), leave(2 * enter(x)))
    assert type(remove(model).get_submodule("stage")) is Doubling


def test_another_class_would_lose_a_graft_inside() -> None:
    class Doubling(toy_networks.Residual):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    model = opened(toy_networks.Root(toy_networks.Residual()), after="stage.conv")
    stage = model.get_submodule("stage")
    with pytest.raises(LostGraftError, match=r"after stage\.conv would be lost.*Doubling"):
        stage.__class__ = Doubling
    assert isinstance(stage, toy_networks.Residual)
    assert len(check(model, image())) == 1


@torch.no_grad()
def test_children_are_cut_as_the_originals_are() -> None:
    plain, x = toy_networks.Root(toy_networks.Residual()), image()
    model = opened(plain, after="stage", before="fc")
    with pytest.warns(UserWarning, match="before fc are not in this list of children"):
        cut = nn.Sequential(*list(model.children())[:-1])
    assert torch.equal(cut(x), model.get_submodule("stage")(x))
    named = nn.Sequential(*dict(list(model.named_children())[:-1]).values())
    with pytest.warns(UserWarning, match="before fc are part of a forward that does not run here"):
        assert torch.equal(named(x), cut(x))


@pytest.mark.parametrize("change", [lambda seq: seq.__setitem__(1, seq[2]), lambda seq: seq.__delitem__(1)])
def test_a_neighbour_in_the_place_of_a_leaf_is_reported(change: Any) -> None:
    plain = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)).eval()
    model = copy.deepcopy(opened(plain, after=["1", "2"]))
    change(model)
    with pytest.raises(LostGraftError, match="after 1 are lost"):
        model(image())


def test_another_kind_of_leaf_takes_no_graft() -> None:
    model: Any = opened(chain(), after="1")
    model[1] = nn.Conv2d(4, 4, 1)
    with pytest.raises(LostGraftError, match="is another one now, a Conv2d"):
        model(image())


@torch.no_grad()
def test_a_rebuilt_leaf_is_mended_before_it_is_compiled_or_exported() -> None:
    model: Any = opened(chain(), after="1")
    x = image()
    expected = model(x)
    for make in (lambda net: torch.compile(net, backend="eager", fullgraph=True), lambda net: exported(net, x)):
        rebuilt = copy.deepcopy(model)
        rebuilt[1] = nn.BatchNorm2d(4).eval()
        assert torch.equal(make(rebuilt)(x), expected)  # type: ignore[no-untyped-call]
    torch.compiler.reset()


def exported(net: nn.Module, x: Tensor) -> nn.Module:
    return torch.export.export(net, (x,)).module()


class GoesOverChildren(nn.Module):
    """Run its children in turn, as the stages of timm's RegNet do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = toy_networks.Residual(), toy_networks.Residual()

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


@torch.no_grad()
def test_no_warning_for_a_forward_that_iterates_its_children_and_runs_the_grafts() -> None:
    plain, x = toy_networks.Root(GoesOverChildren()), image()
    model = opened(plain, after="stage")
    assert list(model.get_submodule("stage")._modules) == ["attn_surgeon", "first", "second"]
    expected = block_at(model, "stage")(plain.get_submodule("stage")(x))
    assert torch.equal(model.get_submodule("stage")(x), expected)


def test_a_graft_removed_from_a_part_is_missed_by_nobody() -> None:
    model, x = opened(toy_networks.Root(toy_networks.Residual()), after="stage", before="fc"), image()
    remove(model.get_submodule("stage"), inplace=True)
    assert [made.place for made in check(model, x)] == ["before fc"]
    model(x)


def test_weights_of_grafts_that_are_no_grafts_any_more_are_not_saved(tmp_path: Path) -> None:
    model, x = opened(toy_networks.Root(toy_networks.Residual()).eval(), after="stage"), image()
    program = torch.export.export(model, (x,)).module()
    with pytest.raises(LostGraftError, match="is not the one operated on"):
        save(program, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


@torch.no_grad()
def test_blocks_wrapped_by_another_tool_are_still_grafts(tmp_path: Path) -> None:
    model, x = opened(toy_networks.Root(toy_networks.Residual()).eval(), after="stage"), image()
    expected = model(x)
    container = model.get_submodule("stage.attn_surgeon")
    container.after = nn.Sequential(blocks(model)[0])
    assert torch.equal(model(x), expected)
    assert [made.place for made in check(model, x)] == ["after stage"]


@torch.no_grad()
def test_an_artefact_of_a_folded_network_comes_back(tmp_path: Path) -> None:
    model: Any = opened(chain(), after="1")
    x = image()
    model[0], model[1] = fuse_conv_bn_eval(model[0], model[1]), nn.Identity()
    expected, plain = model(x), remove(model)
    save(model, tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path / "a.safetensors", model=plain)(x), expected)
