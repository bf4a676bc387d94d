"""A format that is registered can be exported to from the command line and from Python, like those of the package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_surgeon.errors import ExportError
from attn_surgeon.export import formats
from attn_surgeon.export.api import export
from attn_surgeon.export.formats import Format, find_format, register_format
from attn_surgeon.export.parity import ParityError
from attn_surgeon.export.parity_check import check_parity
from attn_surgeon.export.prepared import prepare
from attn_surgeon.export.result import ExportedFile, ExportResult
from attn_surgeon.export.settings import ExportRequest
from attn_surgeon.files import staged

from .helpers import Cli, contents, refused

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
SCALE = {"factor": 1.0}  # of the outputs that the runtime returns


@dataclass(frozen=True)
class Options:
    """An option that the command line has, for another format."""

    compiled: bool = False


def write(request: ExportRequest) -> ExportResult:
    prepared = prepare(request.network, request.settings)
    (target,) = request.targets.values()
    with staged(target) as temporary:
        traced: Any = torch.jit.trace(prepared.module, prepared.example)  # type: ignore[no-untyped-call]
        traced.save(str(temporary))
        loaded: Any = torch.jit.load(str(temporary))  # type: ignore[no-untyped-call]
        parity = check_parity(
            prepared, lambda images: [SCALE["factor"] * loaded(images).detach().numpy()], 1e-4, target.name
        )
    return ExportResult(prepared=prepared, files=(ExportedFile(target, (parity,), {"optimised": False}),))


@pytest.fixture(autouse=True)
def torchscript(monkeypatch: pytest.MonkeyPatch) -> Iterator[Format]:
    monkeypatch.setattr(formats, "_REGISTERED", {})
    made = Format(name="torchscript", title="a TorchScript file", suffixes=(".ts",), write=write, options=Options)
    register_format(made)
    yield made
    SCALE["factor"] = 1.0


def test_the_command_line_exports_to_it(cli: Cli) -> None:
    done = cli("export", "demo", "--format", "torchscript", "--dynamic", "batch,height")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].rstrip() == "demo.ts and PyTorch"
    assert "relative (allowed 0.0001)" in lines[1]
    assert [line.split()[0] for line in lines[2:6]] == ["1×32×32", "1×64×32", "3×32×32", "3×64×32"]
    assert lines[-1].startswith("wrote demo.ts (")
    assert lines[-1].endswith("): a TorchScript file, dynamic axes: batch, height")
    (file,) = cli("export", "demo", "--format", "torchscript", "-o", "x.ts", "--json").document["files"]
    assert (file["output"], file["optimised"], file["parity"][0]["passed"]) == ("x.ts", False, True)
    assert sorted(contents()) == ["demo.ts", "x.ts"]


def test_a_file_that_differs_is_not_left(cli: Cli) -> None:
    SCALE["factor"] = 1.01
    done = cli("export", "demo", "--format", "torchscript")
    assert done.code == 1
    assert "the export does not agree with PyTorch: relative difference 0.01" in done.err
    assert "nothing was written; a larger --tolerance allows more" in done.err
    assert not contents()


def test_options_of_other_formats_have_no_effect(cli: Cli) -> None:
    start = ("export", "demo", "--format", "torchscript")
    assert "no effect on a TorchScript file; --opset; it is for" in refused(cli, *start, "--opset", "20")
    assert "a TorchScript file does not support this precision; --fp16" in refused(cli, *start, "--fp16")
    assert "exclude each other" in refused(cli, *start, "--onnx")
    assert "does not end in .ts" in refused(cli, *start, "-o", "x.onnx")
    assert "did you mean torchscript?" in refused(cli, "export", "demo", "--format", "torchscrip")
    assert cli(*start, "--compile").code == 0  # an option of its own too


def test_python_exports_to_it(tmp_path: Path) -> None:
    model, example = torch.nn.Conv2d(3, 2, 3), torch.randn(1, 3, 8, 8)
    file = export(model, tmp_path / "m.ts", format="torchscript", example=example)
    assert file.parity.passed
    loaded: Any = torch.jit.load(str(tmp_path / "m.ts"))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loaded(example), model(example))
    SCALE["factor"] = 1.01
    with pytest.raises(ParityError):
        export(model, tmp_path / "m.ts", format="torchscript", example=example)


def test_a_name_is_taken_once(torchscript: Format) -> None:
    for name in ("torchscript", "onnx"):
        again = Format(name=name, title="another", suffixes=(".x",), write=torchscript.write)
        with pytest.raises(ExportError, match=f"there is an export format '{name}' already"):
            register_format(again)
    assert find_format("torchscript") is torchscript
    with pytest.raises(ExportError, match=r"unknown export format 'onx'.*did you mean onnx\?"):
        find_format("onx")
