"""Pretrained weights: from a cache, from a file, and where there is no way to them."""

from __future__ import annotations

import socket
import time
from enum import Enum
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from attn_surgeon.errors import SurgeonError, WeightsError
from attn_surgeon.networks import SourceSpec, build_network, load_source, parse_source
from attn_surgeon.networks.preprocessing import Preprocessing

from .helpers import IMAGENET, SMALL, holds, load, random, refused


def _cache_torchvision(tmp_path: Path, name: str, member: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    weights = get_model_weights(name)[member]
    values = random(build_network(SourceSpec("torchvision", name, {}, member)))
    target = tmp_path / "torch" / "hub" / "checkpoints" / Path(weights.url).name
    target.parent.mkdir(parents=True)
    torch.save(values, target)
    return values


@pytest.mark.parametrize("weights", ["default", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1"])
def test_cached_torchvision_weights_need_no_network(tmp_path: Path, weights: str) -> None:
    values = _cache_torchvision(tmp_path, "squeezenet1_1", "IMAGENET1K_V1")
    loaded = load("tv/squeezenet1_1", weights=weights)
    assert holds(loaded.model, values)
    assert loaded.class_names is not None
    assert loaded.class_names[:2] == ("tench", "goldfish")
    assert loaded.preprocessing == Preprocessing(*IMAGENET, (224, 224), crop_pct=224 / 256)


def test_classes_that_the_weights_do_not_have(tmp_path: Path) -> None:
    _cache_torchvision(tmp_path, "squeezenet1_1", "IMAGENET1K_V1")
    error = refused("tv/squeezenet1_1", weights="default", num_classes="5")
    assert "'num_classes' expected value 1000 but got 5" in error.what


def test_damaged_cached_torchvision_weights(tmp_path: Path) -> None:
    _cache_torchvision(tmp_path, "squeezenet1_1", "IMAGENET1K_V1")
    (file,) = (tmp_path / "torch" / "hub" / "checkpoints").iterdir()
    file.write_bytes(b"damaged")
    error = refused("tv/squeezenet1_1", weights="default")
    assert isinstance(error, WeightsError)
    assert error.where == str(file)


def _cache_timm(tmp_path: Path, filename: str = "model.safetensors") -> dict[str, Tensor]:
    values = random(build_network(SourceSpec("timm", SMALL)))
    repo, commit = tmp_path / "hub" / f"models--timm--{SMALL}", "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    target = repo / "snapshots" / commit / filename
    target.parent.mkdir(parents=True)
    if filename.endswith("safetensors"):
        save_file(values, target)
    else:
        torch.save(values, target)
    return values


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_cached_timm_weights_need_no_network(tmp_path: Path, filename: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = _cache_timm(tmp_path, filename)
    loaded = load("test_resnet", weights="default")
    assert holds(loaded.model, values)
    assert loaded.spec == SourceSpec("timm", SMALL, {}, "default")
    assert capsys.readouterr().out == ""


def test_cached_timm_weights_with_another_head(tmp_path: Path) -> None:
    values = _cache_timm(tmp_path)
    model = load(f"timm/{SMALL}", weights="default", num_classes="3").model
    key = next(iter(values))
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert torch.equal(model.state_dict()[key], values[key])


def test_damaged_cached_timm_weights(tmp_path: Path) -> None:
    _cache_timm(tmp_path)
    (file,) = tmp_path.glob("hub/*/snapshots/*/model.safetensors")
    file.write_bytes(b"damaged")
    assert isinstance(refused(f"timm/{SMALL}", weights="default"), WeightsError)


@pytest.mark.parametrize("text", [f"timm/{SMALL}", "timm/gcvit_tiny.in1k", "tv/resnet18"])
def test_a_failed_download_is_quick_and_names_the_ways_on(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    error = refused(text, weights="default")
    assert time.monotonic() - start < 15
    assert isinstance(error, WeightsError)
    assert "could not be downloaded" in error.what
    assert "--weights FILE" in error.hint
    assert "--weights none" in error.hint
    assert error.where == text
    assert socket.getdefaulttimeout() is None
    assert capsys.readouterr().out == ""


def _says_that_there_are_none(error: SurgeonError) -> bool:
    none = error.what == "no pretrained weights exist for this network"
    return none and isinstance(error, WeightsError) and "--weights none" in error.hint


def test_timm_network_without_published_weights() -> None:
    assert _says_that_there_are_none(refused("timm/coatnet_0_224", weights="default"))


def test_torchvision_network_without_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.models

    # nearly all of torchvision's have weights, so a network's are taken away
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: Enum("Empty", {}))
    assert _says_that_there_are_none(refused("tv/resnet18", weights="default"))


@pytest.mark.parametrize("text", [f"timm/{SMALL}", "tv/squeezenet1_1"])
def test_weights_from_a_file(tmp_path: Path, text: str) -> None:
    values = random(build_network(parse_source(text)))
    torch.save({"state_dict": values}, tmp_path / "own.pth")
    loaded = load(text, weights=str(tmp_path / "own.pth"))
    assert holds(loaded.model, values)
    assert loaded.class_names is None
    assert loaded.spec.weights == str(tmp_path / "own.pth")


def test_the_published_file_of_googlenet_loads_though_its_auxiliary_heads_are_off(tmp_path: Path) -> None:
    spec = SourceSpec("torchvision", "googlenet", {"aux_logits": True}, "none")
    torch.save(random(build_network(spec)), tmp_path / "googlenet.pth")
    loaded = load("tv/googlenet", weights=str(tmp_path / "googlenet.pth"))
    assert loaded.notes == ("weights of aux1, aux2 ignored: the network leaves that part out",)


def test_partial_weights_and_another_file_in_their_place(tmp_path: Path) -> None:
    spec = parse_source(f"timm/{SMALL}", args={"num_classes": "3"})
    torch.save(random(build_network(parse_source(f"timm/{SMALL}"))), tmp_path / "own.pth")
    with pytest.raises(WeightsError, match=r"of another shape \(fc.weight"):
        load_source(spec, weights=str(tmp_path / "own.pth"))
    loaded = load_source(spec, weights=str(tmp_path / "own.pth"), allow_partial=True)
    assert loaded.notes[0].startswith("partial weights")


@pytest.mark.parametrize(
    ("text", "hint"), [("timm/resnet18", "tag"), ("tv/resnet18", "IMAGENET1K_V1"), ("demo", "path")]
)
def test_weights_that_are_neither_a_name_nor_a_file(text: str, hint: str) -> None:
    error = refused(text, weights="IMAGENET1K_V7")
    assert error.what == "there is no such weights file"
    assert hint in error.hint
