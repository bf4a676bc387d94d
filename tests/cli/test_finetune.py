"""`finetune`: what it writes and says, wrong requests, and real processes that are killed and resumed."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from attn_surgeon.artefact.storage import read_artefact_tensors
from attn_surgeon.data.subsets import balanced
from attn_surgeon.networks.demo import digits
from attn_surgeon.surgery.installed_grafts import list_grafts

from .helpers import Cli, contents, process, refused, start, wait_for

QUICK = ("--data", "digits", "--epochs", "1", "--batch-size", "8")
LONGER = ("--data", "digits", "--epochs", "2", "--batch-size", "8", "--checkpoint-steps", "2")
DIES = """
import os, signal, sys
from attn_surgeon.cli.app import main
from attn_surgeon.finetune import loop

after = loop._after_step
def die(context):
    after(context)
    if context.run.state.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)

loop._after_step = die
sys.argv = ["attn-surgeon", *sys.argv[1:]]
main()
"""
WAITS = """
import sys, time
from pathlib import Path
from attn_surgeon.cli.app import main
from attn_surgeon.finetune import loop

step = loop._step
def wait(context, images, labels):
    if context.run.state.step == 3:
        Path("waiting").touch()
        time.sleep(2)  # a signal that comes meanwhile lets the step go on to its end
    step(context, images, labels)

loop._step = wait
sys.argv = ["attn-surgeon", *sys.argv[1:]]
main()
"""


@pytest.fixture(autouse=True)
def images(folder: Path) -> None:
    """Write a few of the packaged digits as files."""
    for part, count in (("train", 40), ("val", 20)):
        dataset: Any = digits("demo", part)
        chosen = balanced(dataset.labels, count)
        for index in chosen:
            place = folder / "digits" / part / str(dataset.labels[index])
            place.mkdir(parents=True, exist_ok=True)
            pixels = (255 * dataset[index][0][0]).round().to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(place / f"{index}.png")


def same_tensors(first: Path, second: Path) -> bool:
    left, right = read_artefact_tensors(first), read_artefact_tensors(second)
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def untimed(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs from one measurement to the next."""
    return {**document, "added": {name: document["added"][name] for name in ("parameters", "macs")}}


def test_artefacts_evaluate_to_what_was_recorded(cli: Cli, artefact: str) -> None:
    document = cli("finetune", artefact, *QUICK, "--out", "run", "--json").document
    names = {
        "request.json",
        "checkpoint.pt",
        "metrics.jsonl",
        "comparison.json",
        "last.safetensors",
        "best.safetensors",
        "tensorboard",
        "curves.png",
        "confusion.csv",
        "confusion.png",
    }
    assert {path.name for path in Path("run").iterdir()} == names
    line = json.loads(Path("run/metrics.jsonl").read_text())
    found = cli("evaluate", "run/last.safetensors", "--data", "digits", "--json").document
    assert found["top1"] == line["val_top1"] == document["runs"][0]["grafts"]["top1"]
    assert json.loads(Path("run/comparison.json").read_text()) == document


def test_the_table_ends_in_the_verdict(cli: Cli, artefact: str) -> None:
    done = cli("finetune", artefact, *QUICK, "--control", "--out", "run")
    assert done.code == 0, done.err
    document: dict[str, Any] = json.loads(Path("run/comparison.json").read_text())
    assert done.out.splitlines()[-1] == document["verdict"]
    assert "McNemar" in done.out
    assert f"{100 * document['runs'][0]['control']['top1']:.2f} %" in done.out
    assert ["seed", "grafts", "control", "difference"] in [line.split() for line in done.out.splitlines()]
    assert done.err == ""
    assert Path("run/seed-0-control/last.safetensors").exists()
    control = cli("evaluate", "run/seed-0-control/last.safetensors", "--data", "digits", "--json").document
    assert control["top1"] == document["runs"][0]["control"]["top1"]


def test_a_run_without_a_folder_named_gets_one(cli: Cli, artefact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "attn_surgeon.finetune.control_run.bypass_costs",
        lambda model, *_: {made.path: 0.25 for made in list_grafts(model)},
    )
    for _ in range(2):
        done = cli("finetune", *QUICK)
        assert done.code == 0
        lines = [line.split() for line in done.out.splitlines()]
        assert ["seed", "grafts"] in lines  # without a control, no columns of it
        assert "points of top-1 lost if bypassed" in done.out
        assert ["after", "layer3", "cbam", "680", "7,296"] in [line[:5] for line in lines if line[-1:] == ["+25.00"]]
    names = sorted(path.name for path in Path("runs").iterdir())
    assert len(names) == 2
    assert names[1] == f"{names[0]}-2"
    assert names[0].endswith("-demo-cbam")


def test_data_of_other_classes_gets_a_head_and_the_artefact_scores_the_same(cli: Cli, artefact: str) -> None:
    for path in Path("digits").glob("*/[3-9]"):
        shutil.rmtree(path)
    done = cli("finetune", artefact, *QUICK, "--control", "--out", "run", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.document["notes"] == ["the head fc is new: 3 outputs in place of 10"]
    for arm in ("grafts", "control"):
        trained = f"run/seed-0-{arm}/last.safetensors"
        found = cli("evaluate", trained, "--data", "digits", "--json").document
        assert found["top1"] == done.document["runs"][0][arm]["top1"]
    assert untimed(cli("finetune", "--resume", "run", "--json").document) == untimed(done.document)


def test_a_finished_run_resumes_to_its_result(cli: Cli, artefact: str) -> None:
    done = cli("finetune", artefact, *QUICK, "--val-split", "0.25", "--out", "run", "--json")
    assert (done.document["images"], done.document["train_images"]) == (10, 30)
    assert untimed(cli("finetune", "--resume", "run", "--json").document) == untimed(done.document)


def test_unreadable_images_are_left_out_and_listed(cli: Cli, artefact: str) -> None:
    trained, measured = (sorted(Path("digits", part, "3").iterdir()) for part in ("train", "val"))
    trained[0].write_text("no image")
    measured[0].write_bytes(measured[0].read_bytes()[:60])
    request = ("finetune", artefact, *QUICK, "--control", "--out", "run")
    line = refused(cli, *request)
    assert "1 of 40 images are unreadable, more than --max-bad 0.01 allows" in line
    done = cli(*request, "--max-bad", "0.1")
    assert done.code == 0, done.err
    assert f"unreadable images, left out: 2 ({trained[0]}, {measured[0]})" in done.err.splitlines()
    document = json.loads(Path("run/comparison.json").read_text())
    assert (document["train_images"], document["images"], document["data"]["unreadable"]) == (39, 19, 2)
    lines = Path("run/bad-images.txt").read_text().splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(trained[0]), str(measured[0])]
    assert untimed(cli("finetune", "--resume", "run", "--json").document) == untimed(document)
    found = cli("evaluate", "run/seed-0-grafts/last.safetensors", "--data", "digits", "--max-bad", "0.1", "--json")
    assert found.document["top1"] == document["runs"][0]["grafts"]["top1"]
    assert "cannot read this image" in refused(cli, "evaluate", artefact, "--data", "digits")


def test_leaks_are_reported_or_refused(cli: Cli, artefact: str) -> None:
    one = next(Path("digits/val/4").iterdir())
    shutil.copy(one, "digits/train/4/copy.png")
    assert "byte for byte among the training images: 1" in refused(
        cli, "finetune", artefact, *QUICK, "--leaks", "refuse"
    )
    done = cli("finetune", artefact, *QUICK, "--out", "run")
    assert f"validation images that are byte for byte among the training images: 1 ({one})" in done.err.splitlines()
    assert json.loads(Path("run/comparison.json").read_text())["data"]["duplicates"]["first"] == [str(one)]


def test_shards_train_as_the_folder_of_their_images_does(cli: Cli, artefact: str) -> None:
    for part in ("train", "val"):
        with tarfile.open(f"{part}.tar", "w") as tar:
            for path in sorted(Path("digits", part).rglob("*.png")):
                tar.add(path, f"{path.parent.name}/{path.stem}.png")
                label = tarfile.TarInfo(f"{path.parent.name}/{path.stem}.cls")
                label.size = 1
                tar.addfile(label, io.BytesIO(path.parent.name.encode()))
    documents = [
        cli("finetune", artefact, "--epochs", "1", "--batch-size", "8", "--out", out, "--json", *data).document
        for out, data in (
            ("shards", ("--data", "wds/{train}.tar", "--val-data", "wds/val.tar")),
            ("files", ("--data", "digits")),
        )
    ]
    assert documents[0]["runs"] == documents[1]["runs"]
    assert same_tensors(Path("shards/last.safetensors"), Path("files/last.safetensors"))


def test_classes_that_are_not_measured_leave_evaluate_its_numbers(cli: Cli, artefact: str) -> None:
    for name in "012":
        shutil.rmtree(f"digits/val/{name}")
    done = cli("finetune", artefact, *QUICK, "--out", "run", "--json")
    found = cli("evaluate", "run/last.safetensors", "--data", "digits", "--json").document
    assert (found["images"], found["top1"]) == (14, done.document["runs"][0]["grafts"]["top1"])
    assert found["top1"] > 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_a_killed_run_resumes_to_the_same_bits(cli: Cli, artefact: str) -> None:
    killed = process("-c", DIES, "finetune", artefact, *LONGER, "--out", "killed")
    assert killed.code == -signal.SIGKILL, killed.err
    assert not Path("killed/comparison.json").exists()
    resumed = cli("finetune", "--resume", "killed", "--json")
    whole = cli("finetune", artefact, *LONGER, "--out", "whole", "--json")
    assert (resumed.code, whole.code) == (0, 0), resumed.err + whole.err
    assert same_tensors(Path("killed/last.safetensors"), Path("whole/last.safetensors"))
    assert same_tensors(Path("killed/best.safetensors"), Path("whole/best.safetensors"))
    assert {**untimed(resumed.document), "folder": ""} == {**untimed(whole.document), "folder": ""}


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_a_signal_leaves_a_checkpoint_and_exits_130(artefact: str) -> None:
    running = start("-c", WAITS, "finetune", artefact, *LONGER, "--out", "run")
    wait_for(Path("waiting"))
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=240)
    assert (running.returncode, out) == (130, "")
    assert [line for line in err.splitlines() if line] == [
        "resume with: attn-surgeon finetune --resume run",
        "error: interrupted",
    ]
    assert torch.load("run/checkpoint.pt", weights_only=True)["position"]["step"] == 4


@pytest.mark.slow  # test_processes.py has the same of torchrun, with two processes
def test_it_runs_under_accelerate(artefact: str) -> None:
    launch = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1")
    rest = ("--mixed_precision", "no", "--dynamo_backend", "no", "-m", "attn_surgeon")
    done = process(*launch, *rest, "finetune", artefact, *QUICK, "--out", "run", "--json")
    assert done.code == 0, done.err
    assert done.document["runs"][0]["grafts"]["top1"] > 0


WRONG = {
    "no data": (("demo-cbam.safetensors",), ("--data",)),
    "no artefact": (("demo", "--data", "demo"), ("an artefact's name ends in .safetensors", "demo")),
    "data": (("demo-cbam.safetensors", "--data", "nowhere"), ("nowhere", "demo-clutter")),
    "freeze": (("demo-cbam.safetensors", "--data", "demo", "--freeze", "bas"), ("'bas'", "did you mean base")),
    "optimizer": (("demo-cbam.safetensors", "--data", "demo", "--optimizer", "x"), ("'x'", "adamw")),
    "lr": (("demo-cbam.safetensors", "--data", "demo", "--lr", "-1"), ("lr must be above 0",)),
    "lr nan": (("demo-cbam.safetensors", "--data", "demo", "--lr", "nan"), ("lr must be finite",)),
    "split": (("demo-cbam.safetensors", "--data", "demo", "--val-split", "2"), ("val-split", "0.2")),
    "resume": (("--resume", "nowhere"), ("not a run folder", "nowhere")),
    "resume data": (("--resume", ".", "--data", "demo"), ("--data",)),
    "epochs": (("demo-cbam.safetensors", "--data", "demo", "--epochs", "0"), ("--epochs",)),
    "both epochs": (
        ("demo-cbam.safetensors", "--data", "demo", "--epochs", "1", "--stages", "grafts:1,all:1"),
        ("--stages sets the number", "--epochs"),
    ),
    "crop": (("demo-cbam.safetensors", "--data", "demo", "--crop", "64"), ("--crop", "--task segmentation")),
    "until": (("demo-cbam.safetensors", "--data", "demo", "--freeze", "until:layer9"), ("layer9", "layer3")),
    "full folder": (("demo-cbam.safetensors", "--data", "demo", "--out", "."), ("exists already", "--resume")),
}


def test_a_file_of_options_is_read_and_the_command_line_overrides_it(cli: Cli, artefact: str) -> None:
    Path("run.yaml").write_text("data: digits\nepochs: 3\nbatch-size: 8\nlr: 1e-3\namp: no\nseeds: 2\n")
    done = cli("finetune", artefact, "--config", "run.yaml", "--epochs", "1", "--seeds", "1", "--out", "run", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(Path("run/request.json").read_text())
    settings = found["settings"]
    assert [settings[name] for name in ("epochs", "batch_size", "lr", "amp")] == [1, 8, 1e-3, "no"]
    assert found["seeds"] == len(done.document["runs"]) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3", ("epoch is unknown, did you mean epochs?", "run.yaml")),
        ("epochs: 1.5", ("epochs must be a whole number, got 1.5", "run.yaml")),
        ("batch_size: 0", ("--batch-size must be at least 1, got 0",)),
        ("compile: 1", ("compile must be true or false, got 1",)),
        ("seeds: 0", ("--seeds must be at least 1, got 0",)),
        ("[1, 2]", ("expected a table of options", "run.yaml")),
        ("crop: 16", ("--crop", "--task segmentation")),
    ],
)
def test_a_wrong_file_of_options_is_refused(cli: Cli, artefact: str, text: str, words: tuple[str, ...]) -> None:
    Path("run.yaml").write_text(text)
    line = refused(cli, "finetune", artefact, "--data", "demo", "--config", "run.yaml")
    assert [word for word in words if word not in line] == [], line


def test_what_is_missing_is_named_at_once(cli: Cli, artefact: str) -> None:
    Path(artefact).unlink()
    assert "missing argument 'ARTEFACT' and option '--data'" in refused(cli, "finetune")


def test_a_used_run_folder_is_noticed_before_anything_is_opened(cli: Cli) -> None:
    Path("run").mkdir()
    Path("run/file").touch()
    line = refused(cli, "finetune", "missing.safetensors", "--data", "nowhere", "--out", "run")
    assert "the run folder exists already; run; " in line


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_one_line_and_write_nothing(cli: Cli, artefact: str, name: str) -> None:
    arguments, words = WRONG[name]
    line = refused(cli, "finetune", *arguments)
    assert [word for word in words if word not in line] == [], line


def test_a_precision_the_machine_lacks_is_refused(cli: Cli, artefact: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("fp16 works here")
    line = refused(cli, "finetune", artefact, *QUICK, "--amp", "fp16", "--out", "run")
    assert "--amp bf16" in line


def test_a_run_is_not_resumed_with_another_artefact_of_the_same_name(cli: Cli, artefact: str) -> None:
    assert cli("finetune", artefact, *QUICK, "--out", "run").code == 0
    Path(artefact).write_bytes(Path("run/last.safetensors").read_bytes())
    before = contents()
    done = cli("finetune", "--resume", "run")
    assert done.code == 2
    assert "not the one that the run started from" in done.err
    assert contents() == before
