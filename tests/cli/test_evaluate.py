"""`evaluate`: numbers against a plain loop, and the same to the last bit after every insertion."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_PREPROCESSING, digits, load_demo

from .helpers import Cli, refused
from .test_verify_diff_remove import open_gates

MEASURES = ("images", "correct", "correct5", "top1", "top5", "loss", "logits_sha256")
ORIGINAL: dict[str, Any] = {}  # measured once, by the first test that needs it


def measured(cli: Cli, network: str, *options: str, data: str = "demo") -> dict[str, Any]:
    document = cli("evaluate", network, "--data", data, *options, "--json").document
    return {name: document[name] for name in MEASURES}


@pytest.mark.parametrize("task", ["demo", "demo-clutter"])
def test_the_numbers_are_those_of_a_plain_loop(cli: Cli, task: str) -> None:
    dataset: Any = digits(task, "val", transform=DEMO_PREPROCESSING.transform())
    items = [dataset[index] for index in range(len(dataset))]
    images, labels = torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])
    with torch.inference_mode():
        logits = torch.cat([load_demo()(part) for part in torch.split(images, 256)])
    found = measured(cli, "demo", data=task)
    assert found["images"] == len(labels)
    assert found["correct"] == int((logits.argmax(1) == labels).sum())
    assert found["correct5"] == int((logits.topk(5).indices == labels[:, None]).sum())
    assert found["loss"] == pytest.approx(float(F.cross_entropy(logits.double(), labels)), rel=1e-12)
    assert found["logits_sha256"] == hashlib.sha256(logits.numpy().tobytes()).hexdigest()


def test_the_table_has_the_same_values(cli: Cli) -> None:
    document = cli("evaluate", "demo", "--data", "demo", "--limit", "50", "--json").document
    done = cli("evaluate", "demo", "--data", "demo", "--limit", "50")
    assert done.out.startswith("demo on demo")
    facts = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line.strip()}
    assert facts["images"] == ["50"]
    assert facts["top-1"] == [f"{100 * document['top1']:.2f}", "%", f"({document['correct']:,})"]
    assert facts["loss"] == [f"{document['loss']:.4f}"]
    assert facts["logits"] == ["sha256", document["logits_sha256"][:16] + "…"]
    assert done.err == ""


def test_classes_that_the_network_does_not_predict_are_reported(cli: Cli, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / "two" / "val" / name).mkdir(parents=True)
        for index in range(2):
            Image.new("L", (32, 32), 80 * index).save(folder / "two" / "val" / name / f"{index}.png")
    line = refused(cli, "evaluate", "demo", "--data", "two")
    assert "the network has 10 outputs, the data 2 classes, and their names do not match; --data" in line
    assert line.endswith("--classes-by-index")
    done = cli("evaluate", "demo", "--data", "two", "--classes-by-index")
    assert done.err.splitlines() == ["the network has 10 outputs, the data 2 classes: matched by index to the first 2"]
    assert cli("evaluate", "demo", "--data", "demo", "--limit", "10").err == ""


def test_a_limit_takes_as_many_of_every_class(cli: Cli) -> None:
    found = measured(cli, "demo", "--limit", "30")
    assert found["images"] == 30
    assert found["logits_sha256"] == measured(cli, "demo", "--limit", "30")["logits_sha256"]
    assert found["logits_sha256"] != measured(cli, "demo", "--limit", "40")["logits_sha256"]
    assert len(CLASS_NAMES) == 10


@pytest.mark.parametrize("selector", ["layer*", "layer*.*.bn2"])
@pytest.mark.parametrize("block", ["cbam", "coord", "mdaf", "se"])
def test_blocks_leave_every_logit_as_it_was(cli: Cli, block: str, selector: str) -> None:
    done = cli("insert", "demo", "-b", block, "-a", selector, "-o", "x.safetensors", "--no-verify", "--json")
    assert len(done.document["plan"]["grafts"]) == (3 if selector == "layer*" else 6)
    limit = ("--limit", "100")
    if not ORIGINAL:
        ORIGINAL.update(measured(cli, "demo", *limit, data="demo-clutter"))
    assert measured(cli, "x.safetensors", *limit, data="demo-clutter") == ORIGINAL


def test_without_grafts_is_the_original(cli: Cli, artefact: str) -> None:
    open_gates(artefact, "open.safetensors")
    original = measured(cli, "demo", "--limit", "60")
    assert measured(cli, "open.safetensors", "--limit", "60")["logits_sha256"] != original["logits_sha256"]
    assert measured(cli, "open.safetensors", "--limit", "60", "--without-grafts") == original


def test_a_comparison_contains_the_results_of_both_networks_evaluated_alone(cli: Cli, artefact: str) -> None:
    open_gates(artefact, "open.safetensors")
    alone = [measured(cli, name, "--limit", "60", data="demo-clutter") for name in ("open.safetensors", "demo")]
    command = ("evaluate", "open.safetensors", "--data", "demo-clutter", "--limit", "60")
    for name in ("demo", artefact, "original"):
        document = cli(*command, "--compare", name, "--json").document
        rival = document["compare"]
        assert [{key: found[key] for key in MEASURES} for found in (document, rival)] == alone
        assert rival["network"] == name
        assert rival["mcnemar"]["only_first"] == len(rival["only_first"])
        difference = len(rival["only_first"]) - len(rival["only_second"])
        assert difference == alone[0]["correct"] - alone[1]["correct"]
        assert rival["difference"]["estimate"] == pytest.approx(difference / 60)
        assert ("than without them" in rival["verdict"]) == (name == "original")
    same = cli("evaluate", artefact, "--data", "demo", "--limit", "20", "--compare", "original", "--json").document
    assert "the same logits to the last bit" in same["compare"]["verdict"]


def test_the_screen_and_the_report_are_equal(cli: Cli, artefact: str) -> None:
    open_gates(artefact, "open.safetensors")
    command = ("evaluate", "open.safetensors", "--data", "demo-clutter", "--limit", "40", "--compare", "original")
    done = cli(*command, "--robust", "--report", "out")
    document = json.loads(Path("out/report.json").read_text())
    assert done.err == ""
    lines = done.out.splitlines()
    rival, robust = document["compare"], document["robust"]
    ece = next(line for line in lines if line.startswith("ECE"))
    assert [part for part in ece.split() if part[0].isdigit() and "." in part] == [
        f"{100 * scores['ece']:.2f}" for scores in (document, rival)
    ]
    assert {rival["verdict"], robust["gain"]["verdict"], robust["gain"]["verdict_beyond_clean"]} <= set(lines)
    noise = [line.split()[1:] for line in lines if line.startswith("noise") and "%" not in line]
    for shown, value in zip(noise, ("top1", "compare_top1"), strict=True):
        trials = [trial[value] for trial in robust["trials"] if trial["kind"] == "noise"]
        assert shown == [f"{100 * share:.2f}" for share in [*trials, sum(trials) / 5]]
    rows = list(csv.reader(Path("out/confusion-compare.csv").read_text().splitlines()))
    assert sum(int(row[number + 1]) for number, row in enumerate(rows[1:])) == rival["correct"]
    assert {path.name for path in Path("out").iterdir()} == {
        "report.json",
        *(f"confusion{suffix}.{kind}" for suffix in ("", "-compare") for kind in ("csv", "png")),
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("demo", "--compare", "original"), "compared with itself"),
        (("demo", "--compare", "nowhere.safetensors"), "nowhere.safetensors"),
        (("demo", "--compare", "twelve.py:net"), "10 and 12 outputs"),
        (("demo", "--report", "twelve.py"), "cannot write the report"),
    ],
)
def test_what_cannot_be_compared_or_written_is_refused(cli: Cli, options: tuple[str, ...], said: str) -> None:
    lines = ("from torch import nn", "def net():", "    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 12))")
    Path("twelve.py").write_text("\n".join(lines))
    more = ("--weights", "none", "--mean", "0.3", "--std", "0.3", "--size", "32") if "twelve.py:net" in options else ()
    assert said in refused(cli, "evaluate", *options, "--data", "demo", "--limit", "20", *more)
