"""`profile`: what it counts, times and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from tests.profiling.helpers import scaling

from .helpers import Cli, contents, refused

QUICK = ("--rounds", "2", "--batch", "1")


def test_the_table_has_the_values_of_the_document(cli: Cli, artefact: str, monkeypatch: Any) -> None:
    from attn_surgeon.cli import timings

    shown: list[Any] = []
    printed = timings.show

    def show(document: Any, picture: str | None) -> None:
        shown.append(document)
        printed(document, picture)

    monkeypatch.setattr(timings, "show", show)
    runtimes = ("--runtime", "eager,onnx")
    done = cli("profile", artefact, "--against", "original", *runtimes, *QUICK, "--picture", "bars.png")
    assert done.code == 0
    assert done.err == f"{artefact}: left out 1 of 1 graft in the ONNX file: exactly the identity\n"
    lines = [line.split() for line in done.out.splitlines()]
    (document,) = shown
    for network in document["networks"]:
        held = f"{network['activation_bytes'][1] / 1e6:.2f}"
        assert [network["name"], "1×32×32", f"{network['parameters']:,}", f"{network['macs']:,}", held, "MB"] in lines
    assert [(row["runtime"], row["network"]) for row in document["runs"]] == [
        ("eager", artefact), ("eager", "original"), ("onnx", artefact), ("onnx", "original")
    ]  # fmt: skip
    for row in document["runs"]:
        low, high = (f"{quartile:.3f}" for quartile in row["quartiles_ms"])
        times = [f"{row['median_ms']:.3f}", "ms", low, "to", high, "ms", f"{row['images_per_second']:,.1f}"]
        assert [row["runtime"], "1", row["network"], row["on"], *times, f"{row['ratio']:.3f}"] in lines
    (graft,) = document["grafts"]
    is_noise = abs(graft["saves_ms"]) < graft["saves_spread_ms"]
    saved = "within the spread" if is_noise else f"{graft['saves_ms']:.3f} ms"
    low, high = (f"{quartile:.3f}" for quartile in graft["saves_quartiles_ms"])
    counts = [f"{graft['parameters']:,}", f"{graft['macs']:,}", *saved.split(), low, "to", high, "ms"]
    assert ["after", "layer3", "cbam", *counts] in lines
    assert lines[-1] == ["wrote", "bars.png"]
    with Image.open("bars.png") as picture:
        assert picture.size[1] == 480
    again = cli("profile", artefact, "--against", "original", *QUICK, "--json").document
    assert again.keys() == document.keys()
    assert [network["macs"] for network in again["networks"]] == [row["macs"] for row in document["networks"]]
    diff = cli("diff", artefact, "--json").document
    assert again["networks"][1]["macs"] == diff["base"]["macs"]
    assert graft["macs"] == diff["grafts"][0]["cost"]["macs"]


def test_an_onnx_file_alone(cli: Cli) -> None:
    scaling(Path("demo.onnx"), ["n", 1, 4, 5])
    document = cli("profile", "demo.onnx", *QUICK, "--json").document
    assert document["networks"] == [
        {"name": "demo.onnx", "parameters": 5, "macs": None, "image": [1, 4, 5], "activation_bytes": None}
    ]
    assert [(row["runtime"], row["on"]) for row in document["runs"]] == [("onnx", "CPUExecutionProvider")]
    assert document["grafts"] == []
    assert "runs in ONNX Runtime only" in refused(cli, "profile", "demo.onnx", "--runtime", "eager")
    Path("demo.onnx").write_bytes(b"no model")
    assert "not an ONNX file, or a damaged one" in refused(cli, "profile", "demo.onnx")
    assert list(contents()) == ["demo.onnx"]


def test_errors_are_one_line(cli: Cli) -> None:
    for arguments, said in (
        (("demo", "--runtime", "eagre"), "unknown runtime 'eagre'; --runtime; did you mean eager?"),
        (("demo", "--device", "gpu"), "unknown device 'gpu'; --device; did you mean cpu?"),
        (("demo", "--batch", "1,x"), "invalid batch sizes '1,x'"),
        (("demo", "--against", "original"), "this network has no grafts; --against original"),
        (("demo", "--runtime", "tensorrt"), "TensorRT runs on a GPU; use --device cuda"),
        (("demo", "--picture", "bars.jpg"), "the output's name does not end in .png"),
        (("nothing.onnx",), "this file cannot be read: No such file or directory; nothing.onnx"),
        (("demmo",), "did you mean demo?"),
    ):
        assert said in refused(cli, "profile", *arguments)
