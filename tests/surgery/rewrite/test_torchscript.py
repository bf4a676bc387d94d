"""TorchScript gives the operated network, or an error that names the grafts; never the original."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExportError
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from tests import toy_networks

from ..helpers import image, open_up, opened


@pytest.fixture(autouse=True)
def deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*is deprecated")
        yield


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn(self.conv(x)) + x)
        return self.fc(y.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("site", [{"after": "conv"}, {"before": "fc"}, {"after": "relu"}, {"before": "bn"}], ids=str)
@torch.no_grad()
def test_a_scripted_network_computes_with_its_grafts(site: dict[str, str]) -> None:
    plain = Net().eval()
    x = image()
    model = opened(plain, **site)
    scripted = torch.jit.script(model)
    assert torch.allclose(scripted(x), model(x), atol=1e-6)
    assert not torch.allclose(scripted(x), plain(x), atol=1e-3)
    assert len(list_grafts(model)) == 1
    assert not any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


@pytest.mark.parametrize("block", ["se", "cbam", "coord", "mhsa", "lka", "gct", "triplet"])
@torch.no_grad()
def test_scripted_networks_of_timm(block: str) -> None:
    x = torch.randn(2, 3, 64, 64)
    plain: Any = timm.create_model("resnet10t", num_classes=3).eval()
    model = open_up(insert(plain, block, after=["layer3", "layer2.0.bn2"], example=x[:1]))
    scripted = torch.jit.script(model)
    assert torch.allclose(scripted(x), model(x), rtol=1e-4, atol=1e-5)
    larger = torch.randn(1, 3, 96, 96)
    assert torch.allclose(scripted(larger), model(larger), rtol=1e-4, atol=1e-5)


class CountsNames(toy_networks.Residual):
    def forward(self, x: Tensor) -> Tensor:
        return x * sum(len(name) for name in vars(self))


def test_what_torchscript_does_not_take_is_refused_by_name() -> None:
    model = opened(toy_networks.Root(CountsNames()), after="stage")
    with pytest.raises(ExportError, match="attn_surgeon's grafts"):
        torch.jit.script(model)


def test_a_part_of_an_operated_network_is_refused_by_name() -> None:
    model = opened(toy_networks.Root(toy_networks.Residual()), after=["stage.conv"], before="fc")
    with pytest.raises(ExportError, match="compiles no part"):
        torch.jit.script(model.get_submodule("stage"))


@torch.no_grad()
def test_each_module_is_compiled_once_though_it_is_tried_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch.jit import _recursive

    compiled: list[str] = []
    infer: Any = _recursive.infer_methods_to_compile

    def noted(module: nn.Module) -> Any:
        compiled.append(type(module).__name__)
        return infer(module)

    monkeypatch.setattr(_recursive, "infer_methods_to_compile", noted)
    model, x = opened(toy_networks.Root(toy_networks.Residual()).eval(), after="stage.conv", before="fc"), image()
    scripted = torch.jit.script(model)
    assert sorted(compiled) == ["Conv2d", "Linear", "Module", "Module", "Residual", "Root", "Root"]
    own = {name: value for name, value in model.state_dict().items()}  # noqa: C416
    assert all(torch.equal(own[name], value) for name, value in scripted.state_dict().items())
    assert set(own) == set(scripted.state_dict())
    torch.jit.save(scripted, tmp_path / "net.pt")
    again = torch.jit.load(tmp_path / "net.pt")  # type: ignore[no-untyped-call]
    assert torch.allclose(again(x), model(x), atol=1e-6)
