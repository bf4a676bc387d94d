"""Completion: names from an empty and from a filled cache, by the functions and by the shell's own protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attn_surgeon.cli import completion
from attn_surgeon.networks.demo import load_demo

from .helpers import BLOCKS, Cli, process


@pytest.fixture(autouse=True)
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start every test with an empty cache."""
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setenv("XDG_CACHE_HOME", str(empty))
    yield empty / "attn-surgeon" / "completion.json"


def few_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_surgeon.networks.model_names", lambda: ["demo", "resnet18", "tv/resnet18"])


def sites(source: str, incomplete: str) -> list[str]:
    context: Any = SimpleNamespace(params={"network": source}, args=[])
    return completion.sites(context, incomplete)


def shell(*words: str) -> list[str]:
    """Ask as bash does for the last word."""
    line = " ".join(("attn-surgeon", *words))
    asked = {"_ATTN_SURGEON_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    done = process("-m", "attn_surgeon", **asked)
    assert done.err == ""
    return done.out.split()


def test_names_come_from_an_empty_cache_and_then_from_the_filled_one(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    few_networks(monkeypatch)
    assert completion.networks("re") == ["resnet18"]
    assert completion.blocks("cb") == ["cbam"]
    assert completion.blocks("eca+cb") == ["eca+cbam"]
    monkeypatch.setattr("attn_surgeon.networks.model_names", lambda: 1 / 0)
    monkeypatch.setattr("attn_surgeon.blocks.block_names", lambda: 1 / 0)
    assert completion.networks("") == ["demo", "resnet18", "tv/resnet18"]
    assert completion.networks("timm/res") == ["timm/resnet18"]
    assert tuple(completion.blocks("")) == BLOCKS
    assert json.loads(store.read_text())["networks"] == ["demo", "resnet18", "tv/resnet18"]


def test_a_cache_of_other_versions_counts_as_empty(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    few_networks(monkeypatch)
    completion.networks("")
    store.write_text(store.read_text().replace("attn-surgeon 0", "attn-surgeon 9").replace("timm", "tomm"))
    monkeypatch.setattr("attn_surgeon.networks.model_names", lambda: ["new"])
    assert completion.networks("") == ["new"]


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"sites": 3}'])
def test_a_broken_cache_counts_as_empty(monkeypatch: pytest.MonkeyPatch, store: Path, text: str) -> None:
    few_networks(monkeypatch)
    store.parent.mkdir()
    store.write_text(text)
    assert completion.networks("d") == ["demo"]
    assert sites("demo", "layer3.1.bn") == ["layer3.1.bn1", "layer3.1.bn2"]


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    few_networks(monkeypatch)
    store.parent.touch()
    assert completion.networks("d") == ["demo"]


def test_sites_are_offered_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    few_networks(monkeypatch)
    assert sites("demo", "lay") == ["layer1", "layer2", "layer3"]
    assert sites("demo", "layer3.") == ["layer3.0", "layer3.1"]
    assert sites("demo", "layer3.1.c") == ["layer3.1.conv1", "layer3.1.conv2"]
    assert sites("demo", "x") == []
    assert sites("", "") == []
    assert sites("nothing", "") == []


def test_sites_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    few_networks(monkeypatch)
    sites("demo", "")
    monkeypatch.setattr(completion, "_look_up_sites", lambda source: ["looked up"])
    assert sites("demo", "layer3.1.add") == ["layer3.1.add"]
    assert sites("other", "") == ["looked up"]


def test_inspecting_fills_the_cache_for_an_own_network_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    few_networks(monkeypatch)
    Path("own.py").write_text(
        "from attn_surgeon.networks.demo import demo as net\nfrom pathlib import Path\nPath('ran').touch()\n"
    )
    assert sites("own.py:net", "") == []
    assert not Path("ran").exists()
    cli("inspect", "own.py:net", "--mean", "0", "--std", "1", "--size", "32")
    Path("ran").unlink()
    assert sites("own.py:net", "layer1.0.c") == ["layer1.0.conv1", "layer1.0.conv2"]
    assert not Path("ran").exists()


def test_own_artefacts_are_offered(artefact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few_networks(monkeypatch)
    Path("foreign.safetensors").write_bytes(b"\0" * 20)
    assert completion.artefacts("") == [artefact]
    assert completion.networks("demo") == ["demo", artefact]


def test_the_shell_is_offered_blocks() -> None:
    assert shell("insert", "demo", "--block", "co") == ["coord", "coord-simple", "cot"]


def test_the_shell_is_offered_sites_of_the_network_on_the_line() -> None:
    completion.cache_names("demo", [name for name, _ in load_demo().named_modules()])
    assert shell("insert", "demo", "--block", "cbam", "--after", "layer3.") == ["layer3.0", "layer3.1"]
    assert shell("inspect", "demo", "layer2.1.co") == ["layer2.1.conv1", "layer2.1.conv2"]
    assert shell("insert", "--block", "cbam", "demo", "--before", "f") == ["fc"]


def test_the_shell_is_offered_verbs_artefacts_and_recipes(artefact: str) -> None:
    assert shell("ver") == ["verify"]
    assert shell("verify", "d") == [artefact]
    assert shell("run", "demo") == ["demo-cbam"]
