"""`scout`, the plan that it writes, `insert --plan`, and `prune`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.surgery.installed_grafts import list_grafts

from .helpers import Cli, refused

QUICK = ("--batches", "4", "--batch-size", "8", "--head-images", "16", "--trial-steps", "2")
OPENED = ("--weights", "none", "--arg", "num_classes=10", "--trust", "--mean", "0.4", "--std", "0.3", "--size", "32")
SCOUT = ("scout", "demo", "--data", "demo", "--blocks", "se,gct", "--at", "stages", *QUICK)


def test_the_plan_is_inserted_and_what_it_inserts_is_pruned(cli: Cli) -> None:
    written = ("-o", "a plan.yaml", "--report", "all.json", "--picture", "all.png")
    done = cli(*SCOUT, *OPENED, "--latency", "10000%", *written)
    assert (done.code, done.err) == (0, "")
    again = f"attn-surgeon insert demo {' '.join(OPENED)} --plan 'a plan.yaml'"
    assert f"insert it with: {again}\n" in done.out
    assert "fine-tune with a control to see" in done.out
    report = json.loads(Path("all.json").read_text())
    assert report["verdict"] in " ".join(done.out.split())
    chosen = {
        (f"{each['candidate']['side']} {each['candidate']['site']}", each["candidate"]["block"])
        for each in report["candidates"]
        if each["round"]
    }
    assert len(chosen) > 0
    assert Path("all.png").read_bytes()[:4] == b"\x89PNG"

    assert cli(*shlex.split(again)[1:], "-o", "demo-scouted.safetensors").code == 0
    grafts = list_grafts(load("demo-scouted.safetensors"))
    assert {(graft.place, graft.graft.block["name"]) for graft in grafts} == chosen

    pruned = cli("prune", "demo-scouted.safetensors", "--data", "demo", "--limit", "20", "--json")
    assert pruned.code == 0
    assert {step["place"] for step in pruned.document["steps"] if step["removed"]} == {place for place, _ in chosen}
    artefact = read_artefact("demo-scouted-pruned.safetensors")
    assert artefact.certificate is not None
    assert artefact.certificate.passed
    assert list_grafts(load("demo-scouted-pruned.safetensors")) == []


def test_wrong_requests_are_refused(cli: Cli) -> None:
    assert "cannot be used" in refused(cli, *SCOUT, "--device", "cudda")
    assert "did you mean se" in refused(cli, "scout", "demo", "--data", "demo", "--blocks", "see")
    assert "no budget can be read from 'much'" in refused(cli, *SCOUT, "--budget", "much")
    assert "--block" in refused(cli, "insert", "demo", "--after", "layer3")
    assert "a plan names" in refused(cli, "insert", "demo", "--plan", "p.yaml", "--block", "se")
    assert "--max-loss" in refused(cli, "prune", "demo", "--data", "demo", "--max-loss", "-1")
