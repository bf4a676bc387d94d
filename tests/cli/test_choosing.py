"""Sites chosen by group and filter on the command line and in recipes, and the story an artefact keeps of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from attn_surgeon.artefact.metadata import read_artefact

from .helpers import Cli

UNET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 16, 3, 2, 1)
        self.up = nn.Upsample(scale_factor=2)
        self.out = nn.Conv2d(24, 2, 1)
    def forward(self, x):
        skip = self.one(x)
        deep = self.two(torch.relu(skip))
        return self.out(torch.cat([self.up(deep), skip], 1))
"""
RESIDUAL = ["layer1.0.bn2", "layer1.1.bn2", "layer2.0.bn2", "layer2.1.bn2", "layer3.0.bn2", "layer3.1.bn2"]


def chosen(cli: Cli, *arguments: str) -> list[str]:
    done = cli("insert", "demo", "--block", "eca", "--dry-run", "--json", *arguments)
    assert done.code == 0, done
    return [graft["site"] for graft in json.loads(done.out)["plan"]["grafts"]]


@pytest.mark.parametrize(
    ("arguments", "sites"),
    [
        (("--at", "residual"), RESIDUAL),
        (("--at", "residual@layer[23]"), RESIDUAL[2:]),
        (("--at", "residual", "--last", "2"), RESIDUAL[4:]),
        (("--at", "residual", "--every", "2"), RESIDUAL[::2]),
        (("--at", "residual", "--every", "2", "--last", "1"), RESIDUAL[4:5]),
        (("--at", "residual", "--exclude", "layer2", "--exclude", "layer3.1.bn2"), [*RESIDUAL[:2], RESIDUAL[4]]),
        (("--at", "stages", "--min-channels", "32"), ["layer2", "layer3"]),
        (("--at", "stages", "--after", "conv1", "--exclude", "layer*"), ["conv1"]),
    ],
)
def test_groups_and_filters(cli: Cli, arguments: tuple[str, ...], sites: list[str]) -> None:
    assert chosen(cli, *arguments) == sites


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--at", "residuals"), ("no group is called 'residuals'", "residual")),
        (("--at", "skips"), ("the network has no skips", "it has stages, blocks")),
        (("--at", "blocks@layer9"), ("names none of the group", "did you mean layer3.1")),
        (("--at", "blocks", "--min-channels", "999"), ("the filters leave none", "6 were chosen")),
        (("--at", "blocks", "--with", "layer9"), ("no site is called 'layer9'", "layer1")),
        (("--at", "blocks", "--layout", "NHCW"), ("no layout is called 'NHCW'", "NCHW")),
    ],
)
def test_wrong_choices_are_reported_in_one_line(cli: Cli, arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    done = cli("insert", "demo", "--block", "se", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert [part for part in parts if part not in done.err] == [], done.err


@pytest.fixture
def network(folder: Path) -> str:
    (folder / "own.py").write_text(UNET)
    return "own.py:Net"


def operations_of(path: str) -> list[dict[str, Any]]:
    operations: list[dict[str, Any]] = [
        operation["insert"] for operation in read_artefact(Path(path)).recipe["operations"]
    ]
    return operations


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (("--at", "skips"), {"before": ["cat:1"]}),
        (("--at", "fusions"), {"before": ["cat:0"]}),
        (("--after", "up", "--with", "one"), {"after": ["up"], "with": "one"}),
    ],
)
def test_two_inputs_are_kept_in_the_recipe_and_made_again(
    cli: Cli, network: str, arguments: tuple[str, ...], kept: dict[str, Any]
) -> None:
    own = ("--weights", "none", "--size", "32")
    assert cli("insert", network, *own, "--block", "gate", *arguments, "-o", "a.safetensors").code == 0
    (operation,) = operations_of("a.safetensors")
    assert operation == {"block": "gate", "options": {}, "init": "identity", **kept}
    recipe = {
        "source": {"name": network, "weights": "none"},
        "images": {"size": [32, 32]},
        "operations": [{"insert": operation}],
    }
    Path("again.yaml").write_text(yaml.safe_dump(recipe))
    assert cli("run", "again.yaml", "--trust", "-o", "b.safetensors").code == 0
    first, second = (read_artefact(Path(name)) for name in ("a.safetensors", "b.safetensors"))
    assert first.grafts == second.grafts
    assert cli("verify", "a.safetensors", "--source", network).code == 0


def test_a_recipe_takes_groups_and_filters(cli: Cli, folder: Path) -> None:
    insert = {"block": "eca", "at": "residual@layer[23]", "min_channels": 64, "last": 1}
    (folder / "r.yaml").write_text(yaml.safe_dump({"source": "demo", "operations": [{"insert": insert}]}))
    done = cli("run", "r.yaml", "--json", "-o", "m.safetensors")
    assert [graft["site"] for graft in json.loads(done.out)["plan"]["grafts"]] == ["layer3.1.bn2"]
