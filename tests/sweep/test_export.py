"""The sweep of exports: a block and a network, a file that is gone on with, and one that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torchvision
from torch import nn
from torchvision.models import ResNet, resnet

from attn_surgeon.errors import SurgeonError

from . import export


def test_a_block_is_exported_in_both_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torchvision.models, "resnet18", lambda: ResNet(resnet.BasicBlock, [1, 1, 1, 1]))
    file = tmp_path / "lines.tsv"
    file.write_text("ok\tse residual\tas it was\t0.0 s\n")
    assert export.main(["blocks", "se", "aff", "--file", str(file)]) == 0
    out = capsys.readouterr().out.splitlines()
    verdict, name, detail, _ = out[0].split("\t")
    assert (verdict, name) == ("ok", "se stages")
    errors = [float(part.split()[1]) for part in detail.split(", ")]
    assert errors[0] < 1e-4
    assert errors[1] < 2e-2
    assert [line.split("\t")[:2] for line in out[1:]] == [["-", "aff residual"], ["-", "aff stages"]]
    assert len(file.read_text().splitlines()) == 2


def test_a_network_that_does_not_export_is_tried_without_grafts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(*_: object) -> nn.Module:
        raise SurgeonError("no such operator")

    monkeypatch.setattr(export, "write_onnx", refuses)
    assert export.main(["networks", "timm/lcnet_035"]) == 1
    lines = [line.split("\t")[:3] for line in capsys.readouterr().out.splitlines()]
    names = ["timm/lcnet_035", "timm/lcnet_035 without grafts"]
    assert lines == [["FAILED", name, "no such operator"] for name in names]


def test_large_networks_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["networks", "timm/lcnet_035", "--largest", "1000"]) == 0
    assert "not tried: 2 million parameters" in capsys.readouterr().out
