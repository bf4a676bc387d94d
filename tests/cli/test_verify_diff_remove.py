"""`verify`, `diff` and `remove` on artefacts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.artefact.save import save
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.networks.demo.network import WEIGHTS
from attn_surgeon.surgery.installed_grafts import list_grafts

from .helpers import INSERT, Cli, contents, refused
from .test_insert import CHECKS
from .test_output import OPAQUE


def open_gates(path: str, target: str) -> None:
    model = load(path)
    for made in list_grafts(model):
        for parameter in made.block.parameters():
            torch.nn.init.normal_(parameter)
    save(model, target)


def test_verify_certifies_again(cli: Cli, artefact: str) -> None:
    document = cli("verify", artefact, "--json").document
    assert document["artefact"] == artefact
    assert [(check["name"], check["status"]) for check in document["certificate"]["checks"]] == [
        (name, "passed") for name in CHECKS
    ]
    done = cli("verify", artefact)
    assert (done.code, done.err) == (0, "")
    assert "certificate: passed" in done.out


@pytest.mark.parametrize("as_json", [False, True])
def test_verify_exits_1_where_a_gate_was_opened_by_hand(cli: Cli, artefact: str, as_json: bool) -> None:
    open_gates(artefact, "open.safetensors")
    done = cli("verify", "open.safetensors", *(["--json"] if as_json else []))
    assert (done.code, done.err) == (1, "")
    if not as_json:
        assert "certificate: failed" in done.out
        return
    status = {check["name"]: check["status"] for check in done.document["certificate"]["checks"]}
    assert status["identity in eval, 1×1×32×32"] == "failed"
    assert status["keys and values kept"] == "passed"
    assert status["remove gives the original back"] == "passed"


def test_diff_counts_what_was_added(cli: Cli, artefact: str) -> None:
    document = cli("diff", artefact, "--json").document
    base = sum(parameter.numel() for parameter in load_demo().parameters())
    assert document["base"]["parameters"] == base
    (graft,) = document["grafts"]
    assert graft["path"] == "layer3.1.attn_surgeon.after"
    assert graft["cost"] == {"parameters": 680, "macs": 4 * 64 * 4 + 2 * 49 * 64}
    (change,) = document["code"]
    assert (change["cls"], change["owners"]) == ("BasicBlock", ["layer3.1"])
    assert "out += identity" in change["original"]
    assert "output = self.attn_surgeon.after(output)" in change["generated"]


def test_diff_counts_the_macs_of_the_base(cli: Cli, artefact: str) -> None:
    area = {16: 1024, 32: 256, 64: 64}
    convolutions = [(1, 16, 9), *[(16, 16, 9)] * 4, (16, 32, 9), (16, 32, 1), *[(32, 32, 9)] * 3]
    convolutions += [(32, 64, 9), (32, 64, 1), *[(64, 64, 9)] * 3]
    expected = sum(area[wide] * narrow * wide * kernel for narrow, wide, kernel in convolutions) + 64 * 10
    assert cli("diff", artefact, "--json").document["base"]["macs"] == expected


def test_diff_shows_both_forwards(cli: Cli, artefact: str) -> None:
    lines = cli("diff", artefact).out.splitlines()
    assert lines[0] == "BasicBlock layer3.1"
    assert "as written" in lines[1]
    assert "with its grafts" in lines[1]
    row = next(line for line in lines if line.startswith("after layer3"))
    assert row.split() == ["after", "layer3", "cbam", "680", "0.389", "7,296", "0.028"]


def test_remove_restores_the_original(cli: Cli, artefact: str) -> None:
    done = cli("remove", artefact)
    assert (done.code, done.err) == (0, "")
    assert "removed 1 of 1 graft, the original is back; wrote demo-cbam-removed.safetensors" in done.out
    stored, original = load_file("demo-cbam-removed.safetensors"), load_file(WEIGHTS)
    assert stored.keys() == original.keys()
    assert all(torch.equal(stored[name], original[name]) for name in original)
    assert read_artefact("demo-cbam-removed.safetensors").grafts == ()
    assert type(load("demo-cbam-removed.safetensors").get_submodule("layer3.1")).__name__ == "BasicBlock"


def test_remove_takes_only_the_chosen(cli: Cli) -> None:
    cli("insert", "demo", "-b", "se", "-a", "layer*", "-o", "three.safetensors", "--no-verify")
    kept = load_file("three.safetensors")
    document = cli("remove", "three.safetensors", "layer[13]", "-o", "one.safetensors", "--json").document
    expected = {"artefact": "three.safetensors", "removed": ["layer1", "layer3"], "left": ["layer2"]}
    assert document == expected | {"output": "one.safetensors"}
    left = load_file("one.safetensors")
    assert left.keys() == {name for name in kept if ".attn_surgeon." not in name or name.startswith("layer2")}
    assert all(torch.equal(left[name], kept[name]) for name in left)
    assert cli("verify", "one.safetensors").code == 0


@pytest.mark.parametrize(
    ("chosen", "removed"),
    [
        (("--at", "stages@layer1"), ["layer1"]),
        (("--at", "stage", "--exclude", "layer2"), ["layer1", "layer3"]),
        (("--after", "layer[23]"), ["layer2", "layer3"]),
        (("--before", "fc"), ["fc"]),
        (("layer1", "--before", "fc"), ["layer1", "fc"]),
    ],
)
def test_remove_takes_the_words_of_insert(cli: Cli, chosen: tuple[str, ...], removed: list[str]) -> None:
    common = ("--no-verify", "--force", "-o", "four.safetensors")
    cli("insert", "demo", "-b", "se", "-a", "layer*", "--before", "fc", *common)
    document = cli("remove", "four.safetensors", *chosen, "-o", "rest.safetensors", "--json").document
    assert sorted(document["removed"]) == sorted(removed)
    assert sorted(document["removed"] + document["left"]) == ["fc", "layer1", "layer2", "layer3"]


def test_an_output_that_exists_is_noticed_before_anything_is_loaded(
    cli: Cli, artefact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was loaded")

    monkeypatch.setattr("attn_surgeon.artefact.open_network.load", fail)
    monkeypatch.setattr("attn_surgeon.artefact.open_network.load_source", fail)
    Path("demo-cbam-removed.safetensors").touch()
    assert "the output exists already; demo-cbam.safetensors" in refused(cli, *INSERT)
    assert "the output exists already; demo-cbam.safetensors" in refused(
        cli, "insert", artefact, "-b", "cbam", "-a", "layer1"
    )
    assert "the output exists already; demo-cbam-removed.safetensors" in refused(cli, "remove", artefact)
    Path("demo-cbam-layer3.safetensors").touch()
    assert "the output exists already; demo-cbam-layer3.safetensors" in refused(cli, "run", "demo-cbam")


def test_diff_shows_the_wrapper_alone_for_layers_of_torch(cli: Cli) -> None:
    Path("own.py").write_text(OPAQUE)
    own = ("own.py:Net", "--weights", "none", "--size", "32")
    assert cli("insert", *own, "-b", "eca", "-a", "body", "-o", "own.safetensors").code == 0
    out = cli("diff", "own.safetensors", "--source", "own.py:Net").out
    assert out.startswith("Conv2d body")
    assert "output = self.attn_surgeon.after(output)" in out
    assert "as written" not in out
    (change,) = cli("diff", "own.safetensors", "--source", "own.py:Net", "--json").document["code"]
    assert change["original"] == "# torch's own forward, which is called unchanged"


def test_the_artefact_removed_from_stays(cli: Cli, artefact: str) -> None:
    before = contents()[artefact]
    cli("remove", artefact, "-o", "back.safetensors")
    assert contents()[artefact] == before


def test_a_networks_own_weights_are_verified_as_such(cli: Cli, made: Path) -> None:
    shutil.copy(made, "a.safetensors")
    assert cli(*INSERT, "--weights", str(WEIGHTS), "-o", "b.safetensors").code == 0
    assert read_artefact("a.safetensors").base_sha256 == read_artefact("b.safetensors").base_sha256
    assert cli("verify", "b.safetensors").code == 0
