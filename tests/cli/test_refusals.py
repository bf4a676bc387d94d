"""Wrong requests: exit 2, one line that says what, where and how to go on, and nothing written."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from attn_surgeon.networks.demo.network import WEIGHTS

from .helpers import INSERT, Cli, contents, refused

SE = ("--block", "se", "--after", "layer3")
RECIPE = "source: {nam: demo}\noperations:\n  - insert: {block: cbam}\n  - remove: all\nseed: x\nextra: 1\n"
WRONG: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "network": (("insert", "demoo", *SE), ("demoo", "did you mean demo, demo-detector?")),
    "nothing": (("inspect", ""), ("not the name of a network", "timm/NAME")),
    "address": (("inspect", "hf-hub:someone/net"), ("not downloaded from URLs", "--weights FILE")),
    "block": (("insert", "demo", "--block", "cbamm", "--after", "layer3"), ("'cbamm'", "did you mean cbam")),
    "site": (("insert", "demo", "--block", "se", "--after", "layer33"), ("'layer33'", "did you mean layer3")),
    "no site": (("insert", "demo", "--block", "se"), ("--after, --before or --at",)),
    "no fit": (("insert", "demo", "-b", "cbam", "-a", "fc"), ("after fc", "more than one position", "inspect")),
    "strict": (("insert", "demo", "-b", "cbam", "-a", "fc", "-a", "layer3", "--strict"), ("some sites", "after fc")),
    "patch": (("insert", "demo", *SE, "--weights", "none", "--patch"), ("different weights each", "--weights FILE")),
    "sites": (("insert", "demo", "-b", "se", "-a", "layr1", "-a", "layr2"), ("'layr1'", "'layr2'", "layer2")),
    "glob": (("inspect", "demo", "[z-a]"), ("'[z-a]'", "invalid pattern")),
    "verb": (("insrt",), ("insrt", "attn-surgeon --help")),
    "option": (("insert", "demo", *SE, "--fore"), ("--fore", "attn-surgeon insert --help")),
    "required": (("evaluate", "demo"), ("--data", "attn-surgeon evaluate --help")),
    "block option": (("insert", "demo", *SE, "--set", "reductoin=4"), ("reductoin", "'se'", "did you mean reduction")),
    "range": (("insert", "demo", *SE, "--set", "reduction=0"), ("reduction=0", "smallest is 1", "blocks se")),
    "even": (("insert", "demo", "-b", "spatial", "-a", "layer3", "--set", "kernel_size=4"), ("odd", "blocks spatial")),
    "type": (("insert", "demo", *SE, "--set", "reduction=four"), ("reduction=four", "whole number")),
    "start": (("insert", "demo", *SE, "--init", "papr"), ("papr", "did you mean paper?")),
    "seed": (("insert", "demo", *SE, "--seed", str(2**64)), ("--seed",)),
    "set": (("insert", "demo", *SE, "--set", "reduction"), ("'reduction'", "--set key=value")),
    "arg": (("insert", "demo", *SE, "--arg", "=3"), ("'=3'", "--arg key=value")),
    "unknown arg": (("inspect", "demo", "--arg", "classes=3"), ("classes", "num_classes")),
    "size": (("inspect", "demo", "--size", "32x"), ("'32x'", "--size", "224x320")),
    "size 0": (("inspect", "demo", "--size", "0"), ("'0'", "--size")),
    "sizes": (("inspect", "demo", "--size", "1x2x3"), ("'1x2x3'", "--size")),
    "mean": (("inspect", "demo", "--mean", "0.5;0.5"), ("'0.5;0.5'", "--mean", "0.485,0.456,0.406")),
    "nan": (("inspect", "demo", "--mean", "nan"), ("mean", "finite")),
    "std": (("inspect", "demo", "--std", "0"), ("std", "above 0")),
    "channels": (("inspect", "demo", "--mean", "0,0,0", "--std", "1,1,1"), ("1×3×32×32", "--size and --mean")),
    "depth": (("inspect", "demo", "--depth", "0"), ("--depth", "inspect --help")),
    "at": (("blocks", "--at", "64x8"), ("'64x8'", "--at", "256,14,14")),
    "card": (("blocks", "ceca"), ("'ceca'", "did you mean eca")),
    "limit": (("evaluate", "demo", "--data", "demo", "--limit", "0"), ("--limit",)),
    "limit type": (("evaluate", "demo", "--data", "demo", "--limit", "x"), ("--limit", "integer")),
    "batch": (("evaluate", "demo", "--data", "demo", "--batch-size", "0"), ("--batch-size",)),
    "device": (("evaluate", "demo", "--data", "demo", "--device", "gpu"), ("'gpu'", "--device", "cpu")),
    "data": (("evaluate", "demo", "--data", "nowhere"), ("nowhere", "demo-clutter")),
    "split": (("evaluate", "demo", "--data", "demo", "--split", "tset"), ("'tset'", "train and val")),
    "none here": (("verify",), ("this folder has none", "attn-surgeon insert")),
    "missing": (("verify", "no.safetensors"), ("no such file", "no.safetensors", "attn-surgeon insert")),
    "no artefact": (("diff", "demo"), ("demo", ".safetensors")),
    "recipe": (("run", "demo-cbm"), ("'demo-cbm'", "did you mean demo-cbam")),
    "weights": (("inspect", "demo", "--weights", "no.pth"), ("no such weights file", "no.pth")),
    "output name": (("insert", "demo", *SE, "-o", "x.pth"), ("x.pth", "--output x.pth.safetensors")),
    "output folder": (("insert", "demo", *SE, "-o", "no/x.safetensors"), ("does not exist", "no", "create it first")),
    "own file": (("inspect", "net.py:make"), ("no such file", "net.py")),
    "tv": (("inspect", "tv/resnet19"), ("resnet19", "did you mean")),
    "rounds": (("profile", "demo", "--rounds", "1000000000"), ("--rounds", "profile --help")),
    "workspace": (("export", "demo", "--tensorrt", "--workspace", "inf"), ("--workspace", "export --help")),
    "seeds": (("compare", "--train", "true", "--evaluate", "true", "--seeds", "1000000000"), ("--seeds",)),
    "epochs": (("finetune", "--data", "demo", "--epochs", "1000000000"), ("--epochs must be at most 100000",)),
    "stages": (("finetune", "--data", "demo", "--stages", "all:1," * 9999 + "all:1"), ("--stages", "more than 100")),
    "no output": (("export", "demo", "--onnx", "-o", ""), ("no valid file name", "--output")),
    "null output": (("insert", "demo", *SE, "-o", "a\0b.safetensors"), ("no valid file name", "--output")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_reported_in_one_line(cli: Cli, case: str) -> None:
    arguments, parts = WRONG[case]
    line = refused(cli, *arguments)
    assert [part for part in parts if part not in line] == [], line


@pytest.mark.parametrize("case", ["network", "site", "option", "range", "missing", "recipe", "device"])
def test_with_json_the_error_is_the_one_document(cli: Cli, case: str) -> None:
    arguments, parts = WRONG[case]
    done = cli(*arguments, "--json")
    assert (done.code, done.err) == (2, "")
    assert list(done.document) == ["error"]
    assert list(done.document["error"]) == ["what", "where", "hint"]
    said = " ".join(done.document["error"].values())
    assert [part for part in parts if part not in said] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("insert", "demo", "--block", "se", "--after", f"{{{'9' * 5000}..1}}", "--dry-run"),
        ("insert", "demo", "--block", "se", "--after", "{0..999999999}", "--dry-run"),
        ("insert", "demo", "--block", "se", "--after", "{**,**}" * 2000, "--dry-run"),
        ("insert", "demo", "--block", "se", *("--after", "no" * 300) * 20, "--dry-run"),
        ("insert", "demo", "--block", "x" * 100_000, "--after", "layer3"),
        ("insert", "d" * 100_000, "--block", "se", "--after", "layer3"),
        ("insert", "demo", *SE, "--set", f"reduction={'9' * 100_000}"),
        ("insert", "demo", *SE, "--arg", f"{'k' * 100_000}=1"),
        ("evaluate", "demo", "--data", "demo", "--limit", "9" * 100_000),
        ("evaluate", "demo", "--data", "x" * 100_000),
        ("x" * 100_000,),
        ("blocks", "--at", "999999999999999999,999999999999999999,999999999999999999"),
        ("bench-blocks", "se", "--threads", "1000000000"),
        ("evaluate", "demo", "--data", "demo", "--batch-size", "9" * 30),
    ],
)
def test_an_error_quotes_little_of_a_long_value(cli: Cli, arguments: tuple[str, ...]) -> None:
    since = time.process_time()
    refused(cli, *arguments)
    assert time.process_time() - since < 5


def test_a_fault_of_this_program_is_owned_up_to(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_surgeon.blocks.block_names", lambda: 1 / 0)
    done = cli("blocks")
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        "error: ZeroDivisionError: division by zero; "
        "this is a bug of attn-surgeon; ATTN_SURGEON_DEBUG=1 prints the traceback\n"
    )
    monkeypatch.setenv("ATTN_SURGEON_DEBUG", "1")
    assert "Traceback" in cli("blocks").err


def test_what_looks_like_markup_is_shown_as_written(cli: Cli) -> None:
    assert "'timm/:heart:[/bold]'" in refused(
        cli, "evaluate", "demo", "--data", "demo", "--mean", "timm/:heart:[/bold]"
    )


class Payload:
    """Make a file when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("ran", "w"))


def write_weights(kind: str) -> Path:
    path = Path(f"{kind}.pth")
    if kind == "unreadable":
        path.write_bytes(b"not a checkpoint at all")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "malicious":
        path.write_bytes(pickle.dumps({"conv1.weight": Payload()}, protocol=2))
    elif kind == "malicious zip":
        torch.save({"conv1.weight": Payload()}, path)
    elif kind == "other network":
        torch.save(nn.Linear(3, 2).state_dict(), path)
    elif kind == "cut":
        torch.save(nn.Linear(300, 200).state_dict(), path)
        path.write_bytes(path.read_bytes()[:9000])
    else:
        path.write_bytes(WEIGHTS.read_bytes()[:-5000])
    return path


@pytest.mark.parametrize(
    ("kind", "part"),
    {
        "unreadable": "not a checkpoint", "empty": "empty", "folder": "folder", "malicious": "was not run",
        "malicious zip": "was not run", "other network": "no tensor of the file fits", "cut": "truncated",
        "cut safetensors": "truncated",
    }.items(),
)  # fmt: skip
def test_weights_that_cannot_be_used(cli: Cli, kind: str, part: str) -> None:
    path = write_weights(kind)
    line = refused(cli, *INSERT, "--weights", str(path))
    assert part in line
    assert str(path) in line
    assert not Path("ran").exists()


def test_weights_that_cannot_be_downloaded(cli: Cli, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from torch import hub

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(folder / "hub"))
    (folder / "hub" / "hub" / "checkpoints").mkdir(parents=True)
    monkeypatch.setattr(hub, "download_url_to_file", offline)
    line = refused(cli, "insert", "tv/squeezenet1_1", "--block", "se", "--after", "features.12")
    for part in ("tv/squeezenet1_1", "no route to host", "--weights FILE", "--weights none"):
        assert part in line


def test_an_existing_output_needs_force(cli: Cli) -> None:
    Path("x.safetensors").write_text("precious")
    line = refused(cli, *INSERT, "-o", "x.safetensors")
    assert "exists already" in line
    assert "--force" in line
    Path("demo-cbam.safetensors").symlink_to("nowhere")
    assert "exists already" in refused(cli, *INSERT)


def test_an_output_that_is_a_folder(cli: Cli) -> None:
    Path("x.safetensors").mkdir()
    assert "is a folder" in refused(cli, *INSERT, "-o", "x.safetensors", "--force")


def test_an_output_in_what_is_no_folder(cli: Cli) -> None:
    Path("file").touch()
    assert "folder does not exist" in refused(cli, *INSERT, "-o", "file/x.safetensors")


def test_a_folder_that_must_not_be_written(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    line = refused(cli, *INSERT, "-o", "x.safetensors")
    assert "cannot be written" in line
    assert "--output" in line


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is there on Linux only")
def test_a_folder_that_only_seems_writable(cli: Cli) -> None:
    line = refused(cli, *INSERT, "-o", "/proc/x.safetensors", "--no-verify")
    assert "cannot" in line
    assert "/proc" in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_an_output_that_is_a_pipe(cli: Cli) -> None:
    os.mkfifo("x.safetensors")
    assert "is a pipe or a device" in refused(cli, *INSERT, "-o", "x.safetensors", "--force")
    assert Path("x.safetensors").is_fifo()


def test_a_name_too_long_for_the_disk(cli: Cli) -> None:
    assert "too long" in refused(cli, *INSERT, "--no-verify", "-o", "a" * 300 + ".safetensors")


def test_a_foreign_file_is_no_artefact(cli: Cli) -> None:
    save_file({"conv1.weight": torch.zeros(2)}, "foreign.safetensors")
    for verb in ("verify", "diff", "remove"):
        line = refused(cli, verb, "foreign.safetensors")
        assert "no artefact of attn-surgeon; foreign.safetensors" in line


def test_a_truncated_artefact(cli: Cli, artefact: str) -> None:
    whole = Path(artefact).read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        Path(artefact).write_bytes(whole[:length])
        assert "damaged: it cannot be read" in refused(cli, "verify", artefact)


def test_removing_what_is_not_there(cli: Cli, artefact: str) -> None:
    line = refused(cli, "remove", artefact, "layer2")
    assert "no graft is at 'layer2'" in line
    assert "layer3" in line


def test_all_faults_of_a_recipe_are_reported_together(cli: Cli) -> None:
    Path("bad.yaml").write_text(RECIPE)
    line = refused(cli, "run", "bad.yaml")
    for fault in (
        "source.name is missing",
        "source.nam is unknown, did you mean name?",
        "operations.0.insert: name sites",
        "operations.1.remove is unknown",
        "seed must be a whole number, got 'x'",
        "extra is unknown",
    ):
        assert fault in line
    assert "bad.yaml" in line


@pytest.mark.parametrize("text", ["a: [", "\x00", "operations: 2024-99-99", "- 1", "", "a: &a [*a]", "{" * 20000])
def test_a_file_that_is_no_recipe(cli: Cli, text: str) -> None:
    Path("bad.yaml").write_text(text)
    assert "bad.yaml" in refused(cli, "run", "bad.yaml")


def test_a_recipe_that_is_no_text(cli: Cli) -> None:
    Path("bad.yaml").write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused(cli, "run", "bad.yaml")


def test_an_own_network_is_not_run_because_a_file_names_it(cli: Cli, folder: Path) -> None:
    code = "from pathlib import Path\nfrom attn_surgeon.networks.demo import load_demo as net\nPath('ran').touch()\n"
    Path("own.py").write_text(code)
    images = ("--mean", "0.5", "--std", "0.5", "--size", "32")
    assert cli("insert", "own.py:net", *SE, *images, "--no-verify", "-o", "x.safetensors").code == 0
    Path("ran").unlink()
    shutil.copy("own.py", "other.py")
    for command in (("verify",), ("diff",), ("remove",), ("inspect",), ("evaluate",)):
        more = ("--data", "demo") if command == ("evaluate",) else ()
        assert "--source own.py:net" in refused(cli, *command, "x.safetensors", *more)
    assert cli("verify", "x.safetensors", "--source", "other.py:net").code == 0
    assert "ran" in contents()
