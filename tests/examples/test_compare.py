"""The examples of `compare`: other people's training loops, on a few images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attn_surgeon import load, remove, save
from attn_surgeon.cli.app import main as command_line
from attn_surgeon.surgery.installed_grafts import graft_parameters

from .example_files import REPO, example

# a warning of a trainer about its own settings is no concern of the example
pytestmark = [pytest.mark.outside, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize(
    ("name", "library", "metrics"),
    [
        ("compare_lightning", "lightning", ["accuracy"]),
        ("compare_hf_trainer", "transformers", ["accuracy", "loss"]),
        ("compare_timm", "timm", ["top1"]),
        ("compare_torchvision", "torchvision", ["top1"]),
    ],
)
def test_each_loop(name: str, library: str, metrics: list[str], tmp_path: Path) -> None:
    pytest.importorskip(library)
    result = example(name).main(tmp_path / "run", seeds=1, epochs=1, images=64)  # two steps
    assert list(result.metrics) == metrics
    for metric in result.metrics.values():
        (value,) = metric.grafts
        assert metric.smaller_is_better == (metric is result.metrics.get("loss"))
        assert metric.smaller_is_better or value * 64 == pytest.approx(round(value * 64), abs=1e-9)
    assert all(item.changed and list(item.bypass_costs) == metrics for item in result.grafts)
    assert (tmp_path / "run" / "comparison.png").exists()


def test_the_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = str(tmp_path / "demo-se.safetensors")
    with pytest.raises(SystemExit) as ended:
        sys.argv = [
            "attn-surgeon",
            "insert",
            "demo",
            "--block",
            "se",
            "--after",
            "layer3",
            "--no-verify",
            "-o",
            artefact,
        ]
        command_line()
    assert ended.value.code == 0
    train, val = example("scripts/train"), example("scripts/val")
    train.main([artefact, "--seed", "0", "--out", str(tmp_path), "--epochs", "1", "--images", "32"])
    trained = load(tmp_path / "trained.safetensors")
    before = load(artefact)
    assert any(not one.equal(other) for one, other in zip(*map(graft_parameters, (before, trained)), strict=True))
    save(remove(trained), tmp_path / "plain.safetensors")
    capsys.readouterr()
    for file in (tmp_path / "trained.safetensors", tmp_path / "plain.safetensors"):
        val.main([str(file), "--images", "32"])
        values = json.loads(capsys.readouterr().out)["accuracy"]
        assert (len(values), set(values) <= {0.0, 1.0}) == (32, True)


@pytest.mark.slow
def test_the_command_in_the_script(tmp_path: Path) -> None:
    python, scripts = sys.executable, REPO / "examples" / "scripts"
    command = [python, "-m", "attn_surgeon"]
    insert = ["insert", "demo", "--block", "se", "--after", "layer3", "--no-verify", "-o", "m.safetensors"]
    subprocess.run([*command, *insert], cwd=tmp_path, check=True)
    few = "--images 32"
    train = f"{python} {scripts}/train.py {{artefact}} --seed {{seed}} --out {{folder}} --epochs 1 {few}"
    evaluate = f"{python} {scripts}/val.py {{artefact}} {few}"
    asked = ["compare", "m.safetensors", "--train", train, "--evaluate", evaluate, "--seeds", "1", "--json"]
    done = subprocess.run([*command, *asked], cwd=tmp_path, check=True, capture_output=True, text=True)
    document = json.loads(done.stdout)
    (graft,) = document["grafts"]
    assert graft["changed"]
    assert list(graft["bypass_costs"]) == ["accuracy"]
    assert "32 images" in document["metrics"]["accuracy"]["verdict"]
