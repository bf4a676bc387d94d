"""`insert` and its result, checked by value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.surgery.installed_grafts import list_grafts

from .helpers import INSERT, Cli, contents

CHECKS = [
    "every graft runs",
    "identity in eval, 1×1×32×32",
    "identity in eval, 1×1×64×64",
    "identity in train",
    "identity in bfloat16, 1×1×64×64",
    "keys and values kept",
    "grafts can learn",
    "remove gives the original back",
    "save and load",
]
CBAM_64 = 2 * 64 * 4 + 4 + 64 + 2 * 7 * 7 + 2  # 2C²/r + C/r + C + 2k² + 2


def batch() -> torch.Tensor:
    return torch.randn(3, 1, 32, 32)


def test_the_artefact_contains_the_network_and_the_graft(cli: Cli) -> None:
    done = cli(*INSERT)
    assert (done.code, done.err) == (0, "")
    assert list(contents()) == ["demo-cbam.safetensors"]
    x, model, original = batch(), load("demo-cbam.safetensors"), load_demo()
    assert torch.equal(model(x), original(x))
    stored, state = load_file("demo-cbam.safetensors"), original.state_dict()
    assert all(torch.equal(stored[name], tensor) for name, tensor in state.items())
    assert sum(stored[name].numel() for name in stored.keys() - state.keys()) == CBAM_64 + 3  # and BatchNorm's counts
    assert [(made.graft.site, made.graft.block["name"]) for made in list_grafts(model)] == [("layer3", "cbam")]


def test_people_see_plan_certificate_and_file(cli: Cli) -> None:
    out = cli(*INSERT).out
    assert f"1 graft of cbam, {CBAM_64} parameters" in out
    row = next(line for line in out.splitlines() if line.startswith("after layer3 "))
    assert row.split() == ["after", "layer3", "1×64×8×8", "NCHW", "64", "1", str(CBAM_64), "wrapped", "layer3.1"]
    assert "certificate: passed" in out
    assert [line[3:].split("  ")[0] for line in out.splitlines() if line.startswith("✓")] == CHECKS
    assert "wrote the artefact demo-cbam.safetensors (" in out


def test_json_has_the_same_values(cli: Cli) -> None:
    document = cli(*INSERT, "--json").document
    assert document["source"] == {"kind": "demo", "name": "demo", "args": {}, "weights": "default"}
    assert document["output"] == "demo-cbam.safetensors"
    assert document["plan"]["parameters"] == CBAM_64
    assert document["plan"]["refusals"] == []
    (graft,) = document["plan"]["grafts"]
    assert (graft["site"], graft["side"], graft["parameters"]) == ("layer3", "after", CBAM_64)
    assert graft["feature"]["shape"] == [1, 64, 8, 8]
    assert document["certificate"]["passed"] is True
    assert [check["name"] for check in document["certificate"]["checks"]] == CHECKS
    assert {check["status"] for check in document["certificate"]["checks"]} == {"passed"}


def test_a_dry_run_writes_nothing_and_plans_the_same(cli: Cli) -> None:
    planned = cli(*INSERT, "--dry-run", "--json")
    assert contents() == {}
    assert planned.document == {"plan": cli(*INSERT, "--json").document["plan"]}
    done = cli("insert", "demo", "--block", "se", "--after", "layer1", "--dry-run")
    assert "dry run: nothing was changed or written" in done.out
    assert list(contents()) == ["demo-cbam.safetensors"]


def test_refusals_are_reported_and_the_other_grafts_inserted(cli: Cli) -> None:
    plan = cli("insert", "demo", "-b", "cbam", "-a", "fc", "-a", "layer3", "--json", "--no-verify").document["plan"]
    assert [graft["site"] for graft in plan["grafts"]] == ["layer3"]
    (refusal,) = plan["refusals"]
    assert (refusal["site"], refusal["side"]) == ("fc", "after")
    assert "more than one position" in refusal["reason"]


def test_options_start_and_seed_reach_the_block(cli: Cli) -> None:
    common = ("insert", "demo", "-b", "se", "--before", "fc", "--set", "reduction=4", "--init", "paper", "--no-verify")
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        assert cli(*common, "--seed", str(seed), "-o", f"{name}.safetensors").code == 0
    ((_, graft),) = read_artefact("a.safetensors").grafts
    assert graft.block == {"name": "se", "options": {"reduction": 4}, "init": "paper"}
    files = [load_file(f"{name}.safetensors") for name in "abc"]
    hidden = next(name for name in files[0] if name.endswith("fc1.weight"))
    assert files[0][hidden].shape == (16, 64, 1, 1)
    assert torch.equal(files[0][hidden], files[1][hidden])
    assert not torch.equal(files[0][hidden], files[2][hidden])


def test_a_second_insertion_keeps_the_first(cli: Cli, artefact: str) -> None:
    assert cli("insert", artefact, "-b", "se", "-a", "layer3", "-a", "layer1.0.bn2", "-o", "two.safetensors").code == 0
    model, x = load("two.safetensors"), batch()
    found = [(made.graft.site, made.graft.block["name"]) for made in list_grafts(model)]
    assert found == [("layer1.0.bn2", "se"), ("layer3", "cbam"), ("layer3", "se")]
    assert torch.equal(model(x), load_demo()(x))


def test_a_patch_is_small_and_loads_on_the_demo(cli: Cli) -> None:
    assert cli(*INSERT, "--patch").code == 0
    assert all(".attn_surgeon." in name for name in load_file("demo-cbam.safetensors"))
    x = batch()
    assert torch.equal(load("demo-cbam.safetensors")(x), load_demo()(x))
    assert cli("verify", "demo-cbam.safetensors").code == 0


def test_force_replaces_what_was_there(cli: Cli) -> None:
    target = Path("mine.safetensors")
    target.write_text("precious")
    assert cli(*INSERT, "-o", target.name, "--force").code == 0
    assert read_artefact(target).recipe["operations"][0]["insert"]["after"] == ["layer3"]
    assert list(contents()) == [target.name]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failing_certificate_exits_1_and_writes_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    from attn_surgeon.surgery import certificate

    def other(*args: Any, **kwargs: Any) -> certificate.Check:
        return certificate.Check("identity", "failed", "made to fail")

    monkeypatch.setattr(certificate, "_compare", other)
    done = cli(*INSERT, *(["--json"] if as_json else []))
    assert (done.code, contents()) == (1, {})
    if as_json:
        assert (done.document["output"], done.document["certificate"]["passed"]) == (None, False)
    else:
        assert "certificate: failed" in done.out
        assert "nothing was written" in done.out
