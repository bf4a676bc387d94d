"""`export`: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnx
import pytest

from .helpers import Cli, contents, refused
from .test_verify_diff_remove import open_gates

ONNX = ("export", "demo", "--onnx")


@pytest.fixture(scope="session")
def opened(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the demo with CBAM after layer3, its gates opened by hand."""
    path = tmp_path_factory.mktemp("opened") / "open.safetensors"
    open_gates(str(made), str(path))
    return path


def test_the_newest_artefact_becomes_an_onnx_file(cli: Cli, artefact: str) -> None:
    done = cli("export", "--onnx")
    assert done.code == 0
    assert done.err == f"using {artefact}, the newest artefact in this folder\n"
    lines = done.out.splitlines()
    assert lines[0].rstrip() == "demo-cbam.onnx and PyTorch"
    assert "relative (allowed 0.0001)" in lines[1]
    assert [line.split()[0] for line in lines[2:4]] == ["1×32×32", "3×32×32"]
    assert "left out 1 of 1 graft: exactly the identity" in done.out
    size = Path("demo-cbam.onnx").stat().st_size
    nodes = len(onnx.load("demo-cbam.onnx").graph.node)
    assert (
        lines[-1] == f"wrote demo-cbam.onnx ({size / 1e3:.1f} kB): fp32, opset 20, {nodes} nodes, dynamic axes: batch"
    )
    assert lines[-2] == (
        "input: float32 NCHW images of 32×32 pixels, values 0 to 1, then normalised by mean (0.305) and std (0.323)"
    )
    assert sorted(contents()) == ["demo-cbam.onnx", artefact]


def test_all_precisions_with_their_table(cli: Cli, opened: Path) -> None:
    done = cli(
        "export", str(opened), "--onnx", "--fp16", "--int8", "--calibrate", "demo", "--data", "demo", "--json"
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert [(file["output"], file["precision"]) for file in document["files"]] == [
        ("open-fp16.onnx", "fp16"), ("open-int8.onnx", "int8")
    ]  # fmt: skip
    assert sorted(contents()) == ["open-fp16.onnx", "open-int8.onnx"]
    rows = {row["precision"]: row for row in document["measured"]}
    expected = cli("evaluate", str(opened), "--data", "demo", "--json").document
    assert rows["fp32"]["top1"] == expected["top1"]
    assert rows["fp32"]["images"] == expected["images"]
    assert abs(rows["fp16"]["top1"] - expected["top1"]) < 0.01
    assert abs(rows["int8"]["top1"] - expected["top1"]) < 0.05
    assert rows["int8"]["bytes"] < rows["fp16"]["bytes"] < 0.6 * rows["fp32"]["bytes"]
    worst = {
        file["precision"]: max(each["relative"] for each in file["parity"][0]["sizes"]) for file in document["files"]
    }
    assert 1e-6 < worst["fp16"] < 5e-3 < worst["int8"] < 0.3
    assert "grafts in integers" in document["remarks"][0]


def test_a_program_agrees_to_the_bit(cli: Cli, opened: Path) -> None:
    document = cli("export", str(opened), "--pt2", "--dynamic", "batch=1:5,width", "--json").document
    (file,) = document["files"]
    assert file["output"] == "open.pt2"
    assert [each["absolute"] for each in file["parity"][0]["sizes"]] == [0.0] * 4
    assert document["dynamic"] == {"batch": [1, 5], "width": None}
    assert document["left_out"] == []


@pytest.mark.parametrize("as_json", [False, True])
def test_past_the_tolerance_nothing_is_written(cli: Cli, opened: Path, as_json: bool) -> None:
    Path("open.onnx").write_text("the one before")
    options = ("--tolerance", "1e-12", "--force", *(["--json"] if as_json else []))
    done = cli("export", str(opened), "--onnx", *options)
    assert done.code == 1
    assert Path("open.onnx").read_text() == "the one before"
    assert list(contents()) == ["open.onnx"]
    said = done.document["error"]["what"] if as_json else done.err
    assert "the export does not agree with PyTorch: relative difference" in said
    assert said.count("\n") == (not as_json)


WRONG: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no format": (("export", "demo"), ("no format", "--onnx, --pt2, --tensorrt, or --format")),
    "two formats": ((*ONNX, "--pt2"), ("--onnx and --pt2 exclude each other",)),
    "opset": ((*ONNX, "--opset", "26"), ("opset 26 is out of range", "18 to 25")),
    "old opset": ((*ONNX, "--opset", "11"), ("opset 11 is out of range", "18 to 25")),
    "axis": ((*ONNX, "--dynamic", "hieght"), ("'hieght'", "did you mean height?")),
    "range": ((*ONNX, "--dynamic", "batch=8:2"), ("'8:2'", "batch=1:32")),
    "no scales": ((*ONNX, "--int8"), ("int8 needs images", "--calibrate DIR")),
    "scales for nothing": ((*ONNX, "--calibrate", "demo"), ("only int8 is calibrated; --calibrate", "--int8")),
    "no images": ((*ONNX, "--int8", "--calibrate", "empty"), ("no images", "empty", ".jpg")),
    "no folder": ((*ONNX, "--int8", "--calibrate", "nowhere"), ("no such folder", "nowhere")),
    "no images to compare": ((*ONNX, "--images", "empty"), ("no images", "empty")),
    "no data": ((*ONNX, "--data", "nowhere"), ("nowhere", "demo-clutter")),
    "one name": ((*ONNX, "--fp16", "--int8", "--calibrate", "demo", "-o", "x.onnx"), ("two files", "--output")),
    "brain": ((*ONNX, "--bf16"), ("an ONNX file does not support this precision; --bf16; tensorrt can",)),
    "two precisions": (("export", "demo", "--tensorrt", "--fp16", "--bf16"), ("one precision; --bf16",)),
    "half program": (("export", "demo", "--pt2", "--fp16"), ("does not support this precision; --fp16; onnx",)),
    "compiled file": ((*ONNX, "--compile"), ("no effect on an ONNX file; --compile; it is for --format pt2",)),
    "lint of nothing": ((*ONNX, "--lint-only"), ("no effect on an ONNX file; --lint-only; it is for",)),
    "idle": (("export", "demo", "--tensorrt", "--lint-only", "--workspace", "3"), ("--workspace; leave it out",)),
    "low range": (
        ("export", "tiny.py:pool", "--weights", "none", "--onnx", "--size", "8", "--dynamic", "height=2:16"),
        ("does not run on images 1×3×2×8", "the range of sizes"),
    ),
    "axes of an engine": (("export", "demo", "--tensorrt", "--dynamic", "batch"), ("--dynamic", "use --shapes")),
    "opset of a program": (("export", "demo", "--pt2", "--opset", "20"), ("no effect", "--opset; it is for")),
    "data for a program": (("export", "demo", "--pt2", "--data", "demo"), ("--data; it is for --format onnx",)),
    "part of nothing": ((*ONNX, "--limit", "3"), ("no effect on an ONNX file; --limit; add --data DIR",)),
    "old brain": (("export", "demo", "--tensorrt", "--bf16", "--opset", "21"), ("opset 21", "use 22 or later")),
    "size": (("export", "tiny.py:net", "--weights", "none", "--onnx", "--size", "9"), ("images 1×3×9×9", "size")),
    "channels of a mean": (
        ("export", "tiny.py:net", "--weights", "none", "--onnx", "--mean", "0.5", "--std", "1", "--dynamic", "height"),
        ("does not run on images 1×1×224×224", "channels that it accepts"),
    ),
    "normalisation": (
        ("export", "tiny.py:net", "--weights", "none", "--onnx", "--size", "8", "--preprocess"),
        ("normalisation of this network's images is unknown", "--mean and --std"),
    ),
    "no numbers": (("export", "tiny.py:nan", "--weights", "none", "--onnx", "--size", "8"), ("infinite or NaN",)),
    "whose classes": (
        ("export", "tiny.py:two", "--weights", "none", "--onnx", "--size", "8", "--softmax"),
        ("it is ambiguous which output has the logits: low, high", "logits"),
    ),
    "a file that is out already": (("export", "x.onnx", "--onnx"), ("this is an ONNX file", "profile")),
    "shapes": (("export", "demo", "--tensorrt", "--shapes", "1x1x32"), ("'1x1x32'", "NxCxHxW")),
    "channels": (("export", "demo", "--tensorrt", "--shapes", "1x3x32x32"), ("images of 1 channels",)),
    "sides": (("export", "demo", "--tensorrt", "--shapes", "1x1x64x64"), ("32x32", "--size 64x64")),
    "name": ((*ONNX, "-o", "x.pt"), ("does not end in .onnx", "x.pt")),
    "folder": ((*ONNX, "-o", "no/x.onnx"), ("does not exist", "create it first")),
    "artefact": (("export", "no.safetensors", "--onnx"), ("no such file", "no.safetensors")),
    "own": (("export", "net.py:none", "--onnx"), ("net.py",)),
}  # fmt: skip


TINY = """
import torch
from torch import nn

class Forward(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.forward = forward

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))

def conv():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 2))

def pool():
    return Forward(lambda x: nn.functional.max_pool2d(x, 4).mean((2, 3)))

def nan():
    return Forward(lambda x: x.mean((2, 3)) * torch.nan)

def two():
    return Forward(lambda x: {"low": x, "high": x * 2})
"""


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_reported_in_one_line(cli: Cli, case: str) -> None:
    Path("empty").mkdir()
    Path("tiny.py").write_text(TINY)
    arguments, parts = WRONG[case]
    line = refused(cli, *arguments)
    assert [part for part in parts if part not in line] == [], line


def test_an_existing_file_is_noticed_before_the_network_is_loaded(cli: Cli) -> None:
    Path("own.py").write_text("from pathlib import Path\ndef net():\n    Path('loaded').touch()\n    raise OSError\n")
    Path("net.onnx").write_text("the one before")
    for options in ((), ("-o", "net.onnx")):
        assert "the output exists already; net.onnx; add --force" in refused(
            cli, "export", "own.py:net", "--onnx", *options
        )
    assert not Path("loaded").exists()
    assert cli("export", "own.py:net", "--onnx", "--force").code != 0
    assert Path("loaded").exists()


def test_a_folder_that_must_not_be_written(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert "cannot be written" in refused(cli, *ONNX)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is there on Linux only")
def test_a_folder_that_only_seems_writable(cli: Cli) -> None:
    assert "/proc" in refused(cli, *ONNX, "-o", "/proc/x.onnx")


def test_a_network_that_cannot_be_exported(cli: Cli) -> None:
    Path("net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x * 2 if x.sum() > 0 else x\n"
    )  # fmt: skip
    images = ("--mean", "0.5", "--std", "0.5", "--size", "8")
    for form in ("--onnx", "--pt2"):
        line = refused(cli, "export", "net.py:Net", form, *images)
        assert "its control flow depends on computed values" in line


def test_a_head_of_zeros_is_reported(cli: Cli) -> None:
    Path("own.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    head = nn.Linear(3 * 64, 2)\n"
        "    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)\n"
        "    return nn.Sequential(nn.Flatten(), head)\n"
    )
    options = ("--weights", "none", "--size", "8", "--mean", "0,0,0", "--std", "1,1,1")
    done = cli("export", "own.py:net", *options, "--onnx")
    assert (done.code, done.err) == (0, "")
    assert "every output is zero or empty, so nothing is compared" in done.out


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os.abort()", "ONNX Runtime crashed on this file"),
        ("os.kill(os.getpid(), 9)", "as it does when memory runs out"),
    ],
)
def test_a_crash_of_the_runtime_is_reported_in_one_line(
    end: str, told: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attn_surgeon.export.onnx.session.WORKER", ("-c", f"import os; {end}"))
    assert told in refused(cli, *ONNX)


def test_without_tensorrt_the_file_for_it_is_written_and_linted(
    cli: Cli, opened: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    shapes = ("--shapes", "1x1x32x32,2x1x32x32,4x1x32x48")
    done = cli("export", str(opened), "--tensorrt", *shapes, "--lint-only", "--json")
    assert done.code == 0
    document = done.document
    assert document["lint"] == {"tensorrt": "10.15", "findings": []}
    assert [each["size"] for each in document["parity"][0]["sizes"]] == ["1×32×32", "1×32×48", "4×32×32", "4×32×48"]
    assert list(contents()) == ["open.onnx"]
    brain = cli("export", str(opened), "--tensorrt", "--bf16", "--lint-only", "--json")
    assert brain.document["files"][0]["output"] == "open-bf16.onnx"
    onnx.checker.check_model("open-bf16.onnx", full_check=True)
    assert (brain.code, brain.document["lint"]["findings"]) == (0, [])
    worst = max(each["relative"] for each in brain.document["parity"][0]["sizes"])
    assert 1e-5 < worst < 2e-2  # weights lose digits, and no more than bfloat16's
    named = cli("export", str(opened), "--tensorrt", "--lint-only", "-o", "named.onnx")
    assert (named.code, Path("named.onnx").is_file()) == (0, True)
    done = cli("export", str(opened), "--tensorrt", "--fp16")
    assert done.code == 2
    assert "wrote open-fp16.onnx (" in done.out
    assert "): fp16, opset 20, " in done.out
    assert "TensorRT 10.15's operator table: no unsupported nodes" in done.out
    (line,) = done.err.splitlines()
    assert "there is no NVIDIA GPU" in line
    assert "pip install tensorrt" in line
    assert sorted(contents()) == ["named.onnx", "open-bf16.onnx", "open-fp16.onnx", "open.onnx"]
    again = refused(cli, "export", str(opened), "--tensorrt", "--fp16")
    assert "exists already; open-fp16.onnx; add --force" in again


def test_integers_for_tensorrt_have_biases_that_it_reads(cli: Cli, opened: Path) -> None:
    options = ("--tensorrt", "--lint-only", "--int8", "--calibrate", "demo", "--json")
    done = cli("export", str(opened), *options)
    assert (done.code, done.document["lint"]["findings"]) == (0, [])
    assert sum(node.op_type == "QuantizeLinear" for node in onnx.load("open-int8.onnx").graph.node) > 10
    assert [each["size"] for each in done.document["parity"][0]["sizes"]] == ["1×32×32"]


def test_an_assumed_normalisation_stays_an_assumption(cli: Cli) -> None:
    Path("tiny.py").write_text(TINY)
    own = ("--weights", "none", "--size", "8")
    done = cli("insert", "tiny.py:conv", "--block", "se", "--after", "0", *own, "--no-verify")
    assert done.code == 0
    assert "the normalisation of the images is not known: ImageNet's mean and std are assumed" in done.err
    export = ("export", "conv-se.safetensors", "--source", "tiny.py:conv", "--onnx")
    assert "the normalisation of this network's images is unknown" in refused(cli, *export, "--preprocess")
    assert cli(*export, "--json").document["notes"]
    told = {item.key: item.value for item in onnx.load("conv-se.onnx").metadata_props}
    assert json.loads(told["attn_surgeon.preprocessing"]) == {
        "size": [8, 8],
        "inside": False,
        "dtype": "float32",
        "layout": "NCHW",
        "range": [0, 1],
    }
    said = ("--mean", "0.1,0.2,0.3", "--std", "1,1,1")
    assert cli(*export, "--preprocess", *said, "-o", "x.onnx", "--json").document["notes"] == []


def test_accuracy_is_that_of_the_output_with_classes(cli: Cli) -> None:
    Path("first.py").write_text(
        "from attn_surgeon.networks.demo import load_demo\n"
        "from torch import nn\n"
        "class Two(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.demo = load_demo()\n"
        "    def forward(self, x):\n"
        "        y = self.demo(x)\n"
        "        return {'features': -y, 'logits': y}\n"
    )
    images = ("--size", "32", "--mean", "0.305", "--std", "0.323", "--data", "demo", "--limit", "20")
    done = cli("export", "first.py:Two", "--onnx", *images, "--json")
    assert done.code == 0, done.err
    assert done.document["measured"][0]["top1"] > 0.9
