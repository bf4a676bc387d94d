"""`attn-surgeon compare`: training and evaluation by scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.artefact.save import save
from attn_surgeon.surgery.installed_grafts import graft_parameters

from .helpers import Cli

CAUSE = "RuntimeError: mat1 and mat2 shapes cannot be multiplied (64x2048 and 512x1000), in the forward of the head"


@pytest.fixture
def prepared(cli: Cli) -> str:
    """Prepare what two trainings would write, and return a command that copies it: importing torch takes seconds."""
    assert cli("insert", "demo", "--block", "se", "--after", "layer3", "--no-verify", "-o", "m.safetensors").code == 0
    Path("prepared").mkdir()
    for seed in (0, 1):
        network = open_network("m.safetensors")
        with torch.no_grad():
            for parameter in graft_parameters(network.model):
                parameter.add_(0.1 * (seed + 1))
        save(network.model, f"prepared/seed-{seed}-grafts.safetensors")
        assert cli("remove", "m.safetensors", "-o", f"prepared/seed-{seed}-control.safetensors").code == 0
    return "sh -c 'cp prepared/$(basename {folder}).safetensors {folder}/best.safetensors; : {artefact}'"


def script(name: str, text: str) -> str:
    """Write a shell script, and return its command."""
    Path(name).write_text(text)
    return f"sh {name}"


def test_scripts_train_and_evaluate_both_networks(cli: Cli, prepared: str) -> None:
    evaluate = script(
        "val.sh", "grep -q 1.attn_surgeon.after $1 && n=5 || n=25; echo evaluated; echo '{\"mAP\": 0.'$n}"
    )
    asked = ("compare", "m.safetensors", "--train", prepared, "--evaluate", f"{evaluate} {{artefact}}", "--seeds", "2")
    done = cli(*asked, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    metric = document["metrics"]["mAP"]
    assert (metric["before"], metric["grafts"], metric["control"]) == (0.5, [0.5, 0.5], [0.25, 0.25])
    assert json.loads(Path("runs/compare/comparison.json").read_text())["metrics"]["mAP"]["grafts"] == [0.5, 0.5]
    (graft,) = document["grafts"]
    assert (graft["place"], graft["parameters"], graft["macs"], graft["changed"]) == ("after layer3", 580, 512, True)
    assert graft["bypass_costs"] == {"mAP": 0.25}
    before = {file: file.stat().st_mtime_ns for file in Path("runs").rglob("best.safetensors")}
    assert "this comparison is finished; runs/compare/comparison.json; choose another --out" in cli(*asked).err
    Path("runs/compare/comparison.json").unlink()
    Path("runs/compare/seed-1-control/result.json").unlink()
    printed = cli(*asked)
    assert "after layer3" in printed.out
    assert "mAP: The evidence does not show whether training with the grafts" in printed.out
    assert "no interval, because the runs ended alike" in printed.out
    after = {file: file.stat().st_mtime_ns for file in Path("runs").rglob("best.safetensors")}
    assert [file.parent.name for file in before if after[file] != before[file]] == ["seed-1-control"]
    Path("runs/compare/comparison.json").unlink()
    assert (
        "a comparison of another training loop" in cli(*asked[:-4], "--evaluate", "true {artefact}", "--seeds", "2").err
    )


@pytest.mark.parametrize(
    ("train", "evaluate", "message"),
    [
        ("true {artefact}", "sh good.sh {artefact}", "the command has no {folder}"),
        ("true {artefact} {folder}", "sh good.sh", "the command has no {artefact}"),
        ("true {artefact} {folder} 'x", "sh good.sh {artefact}", "malformed: No closing quotation"),
        ("no-such-program {artefact} {folder}", "sh good.sh {artefact}", "cannot be run"),
        ("true {artefact} {folder}", "echo {artefact}", "the last line is no JSON object"),
        ("true {artefact} {folder}", "true {artefact}", "the command printed nothing"),
        ("true {artefact} {folder}", "sh text.sh {artefact}", "file is str, not a number"),
        ("true {artefact} {folder}", "sh good.sh {artefact}", "has written no artefact"),
        ("sh fails.sh {artefact} {folder}", "sh good.sh {artefact}", "failed with exit code 7: out of memory"),
        ("sh raises.sh {artefact} {folder}", "sh good.sh {artefact}", f"failed with exit code 1: {CAUSE}"),
    ],
)
def test_wrong_commands_are_one_line(cli: Cli, prepared: str, train: str, evaluate: str, message: str) -> None:
    script("good.sh", """echo '{"mAP": 0.5}'""")
    script("text.sh", """echo '{"mAP": 0.5, "file": "x"}'""")
    script("fails.sh", "echo out of memory >&2; exit 7")
    script("raises.sh", f"printf 'Traceback:\\n  line 1\\n{CAUSE}\\n' >&2; exit 1")
    done = cli("compare", "m.safetensors", "--train", train, "--evaluate", evaluate, "--seeds", "1")
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
