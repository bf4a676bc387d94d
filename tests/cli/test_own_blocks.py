"""Blocks of the user's own on the command line: named by file, never run because an artefact names them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from attn_surgeon import insert, register_block, save
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.blocks.base import registry

from .helpers import Cli
from .test_catalogue import OWN

INSERT = ("insert", "demo", "-b", "mine.py:Scale", "--set", "start=2", "-a", "layer3", "-o", "own.safetensors")


@pytest.fixture(autouse=True)
def _own_code(folder: Path) -> Iterator[None]:
    (folder / "mine.py").write_text(OWN)
    registry._OWN.clear()
    yield
    registry._OWN.clear()


@pytest.mark.parametrize("verb", [("verify",), ("diff",), ("inspect",), ("remove", "-o", "x.safetensors")])
def test_an_artefacts_own_code_runs_only_where_it_is_named(cli: Cli, verb: tuple[str, ...]) -> None:
    assert cli(*INSERT).code == 0
    registry._OWN.clear()
    command = (verb[0], "own.safetensors", *verb[1:])
    refused = cli(*command)
    assert refused.code == 2
    assert "no block is called 'mine.py:Scale'" in refused.err
    assert "--own mine.py:Scale, or add --trust" in refused.err
    assert cli(*command, "--own", "mine.py:Scale").code == 0
    registry._OWN.clear()
    assert cli(*command, "--trust", *(["--force"] if verb[0] == "remove" else [])).code == 0


def test_a_block_registered_in_python_is_given_its_code_by_name(cli: Cli, folder: Path) -> None:
    loaded = open_network("demo")
    register_block("plain", lambda channels: nn.Conv2d(channels, channels, 1))
    save(insert(loaded.model, "plain", after="layer3", example=loaded.example), folder / "plain.safetensors")
    registry._OWN.clear()
    (folder / "mine.py").write_text(
        "from torch import nn\n\ndef plain(channels): return nn.Conv2d(channels, channels, 1)\n"
    )
    assert "--own plain=file.py:Factory" in cli("inspect", "plain.safetensors").err
    assert cli("inspect", "plain.safetensors", "--own", "plain=mine.py:plain").code == 0


def test_a_recipe_names_it(cli: Cli, folder: Path) -> None:
    (folder / "r.yaml").write_text("source: demo\noperations:\n  - insert: {block: se+mine.py:Scale, at: head}\n")
    refused = cli("run", "r.yaml", "-o", "r.safetensors")
    assert refused.code == 2
    assert "names mine.py:Scale; r.yaml; if you trust it, add --trust, or name it: --own mine.py:Scale" in refused.err
    assert cli("run", "r.yaml", "--own", "mine.py:Scale", "--dry-run").code == 0
    registry._OWN.clear()
    done = cli("run", "r.yaml", "-o", "r.safetensors", "--json", "--trust")
    assert done.err == "running code of mine.py:Scale\n"
    assert done.code == 0, done.err
    assert [graft["block"]["name"] for graft in done.document["plan"]["grafts"]] == ["se+mine.py:Scale"]
    assert done.document["certificate"]["passed"]


def test_default_file_name_contains_the_name_of_the_factory(cli: Cli, folder: Path) -> None:
    cli("insert", "demo", "-b", "eca+mine.py:Scale", "-a", "layer3", "--no-verify")
    assert (folder / "demo-eca+Scale.safetensors").exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError('no luck')", "the factory failed: OSError: no luck; "),
        ("def Scale(:", "SyntaxError"),
        ("def Scale(): pass", "cannot be built for 64 channels: TypeError"),
        ("def other(channels): pass", "there is no factory 'Scale'"),
    ],
)
def test_broken_code_is_reported_in_one_line(cli: Cli, folder: Path, code: str, reason: str) -> None:
    (folder / "mine.py").write_text(code)
    done = cli("insert", "demo", "-b", "mine.py:Scale", "-a", "layer3")
    assert done.code == 2
    assert reason in done.err
    assert done.err.count("\n") == 1
