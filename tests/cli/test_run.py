"""`run` and `recipes`."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.artefact.storage import read_payload
from attn_surgeon.networks.demo import load_demo

from .helpers import REPO, Cli, contents

RECIPE = """# Two blocks in the demo.
source: demo
operations:
  - insert: {block: cbam, after: layer3, options: {kernel_size: 3}}
  - insert: {block: se, before: [fc, layer2]}
seed: 7
output: both.safetensors
"""


def same_artefact(first: str, second: str) -> bool:
    tensors, others = load_file(first), load_file(second)
    same = tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)
    return same and read_payload(Path(first)) == read_payload(Path(second))


def test_a_recipe_writes_what_the_same_insertion_writes(cli: Cli, artefact: str) -> None:
    done = cli("run", "demo-cbam", "-o", "run.safetensors")
    assert (done.code, done.err) == (0, "")
    assert same_artefact("run.safetensors", artefact)


def test_all_of_a_recipe_is_done(cli: Cli) -> None:
    Path("two.yaml").write_text(RECIPE)
    assert cli("run", "two.yaml").code == 0
    found = [(graft.site, graft.side, graft.block["name"]) for _, graft in read_artefact("both.safetensors").grafts]
    assert sorted(found) == [("fc", "before", "se"), ("layer2", "before", "se"), ("layer3", "after", "cbam")]
    x = torch.randn(2, 1, 40, 24)
    assert torch.equal(load("both.safetensors")(x), load_demo()(x))


def test_a_dry_run_plans_all_and_writes_nothing(cli: Cli) -> None:
    Path("two.yaml").write_text(RECIPE)
    plan = cli("run", "two.yaml", "--dry-run", "--json").document["plan"]
    assert [graft["site"] for graft in plan["grafts"]] == ["layer3", "fc", "layer2"]
    assert list(contents()) == ["two.yaml"]


def test_the_story_in_an_artefact_replays_to_the_same_file(cli: Cli) -> None:
    command = ("insert", "demo", "-b", "eca", "-a", "layer*.*.bn2", "--before", "layer2", "--size", "48x40")
    assert cli(*command, "-o", "first.safetensors").code == 0
    story = dict(read_artefact("first.safetensors").recipe)
    Path("again.yaml").write_text(yaml.safe_dump(story))
    assert cli("run", "again.yaml", "-o", "second.safetensors").code == 0
    assert same_artefact("first.safetensors", "second.safetensors")


def test_recipes_here_come_before_those_of_the_package(cli: Cli) -> None:
    Path("recipes").mkdir()
    Path("recipes/demo-cbam.yaml").write_text("# mine\nsource: demo\n")
    Path("recipes/odd.yaml").write_bytes(b"# \xff\n")
    found = cli("recipes", "--json").document
    assert found["demo-cbam"] == str(Path("recipes/demo-cbam.yaml"))
    assert found["resnet50-se-residual"] == str(REPO / "recipes" / "resnet50-se-residual.yaml")
    rows = {line.split()[0]: line for line in cli("recipes").out.splitlines()[2:]}
    assert rows["demo-cbam"].split()[1] == "mine"
    assert "odd" in rows


def test_commands_in_packaged_recipes_name_them(cli: Cli) -> None:
    for name, path in cli("recipes", "--json").document.items():
        trust = " --trust" if cli("recipes", "validate", name, "--json").document["code"] else ""
        assert f"# Run it with: attn-surgeon run {name}{trust}" in Path(path).read_text().splitlines()


def test_a_recipes_weights_can_be_given_on_the_line(cli: Cli) -> None:
    done = cli("run", "demo-cbam", "--weights", "none", "--no-verify", "--json")
    assert done.code == 0
    assert done.document["source"]["weights"] == "none"


def test_a_recipe_is_shown_copied_and_validated(cli: Cli) -> None:
    packaged = (REPO / "recipes" / "demo-cbam.yaml").read_text()
    assert cli("recipes", "show", "demo-cbam").out == packaged
    done = cli("recipes", "copy", "demo-cbam")
    assert done.code == 0, done.err
    assert Path("demo-cbam.yaml").read_text() == packaged
    again = cli("recipes", "copy", "demo-cbam")
    assert (again.code, "--force" in again.err) == (2, True)
    assert cli("recipes", "copy", "demo-cbam", "mine.yaml").code == 0
    assert cli("recipes", "validate", "mine.yaml").out == "mine.yaml is valid: cbam into demo\n"


def test_a_wrong_recipe_does_not_validate_and_nothing_is_built(cli: Cli) -> None:
    faults = {
        "block: cbamm": "did you mean cbam",
        "block: se, options: {reductoin: 4}": "did you mean reduction",
        "block: se, evry: 2": "evry is unknown, did you mean every",
    }
    for fault, said in faults.items():
        Path("bad.yaml").write_text(f"source: nowhere.py:net\noperations:\n  - insert: {{{fault}, after: x}}\n")
        done = cli("recipes", "validate", "bad.yaml")
        assert (done.code, said in done.err, done.err.count("\n")) == (2, True, 1), done.err
    Path("good.yaml").write_text("source: nowhere.py:net\noperations:\n  - insert: {block: no.py:Block, after: x}\n")
    assert cli("recipes", "validate", "good.yaml", "--json").document["valid"]
