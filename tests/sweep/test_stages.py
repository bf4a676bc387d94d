"""The sweep of stages: networks compared with timm's features, verdicts, the file of rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from .stage_rows import StageRow, draw
from .stage_verdicts import OPEN
from .stages import compare_one, main, snapped


@pytest.mark.parametrize("name", ["resnet18", "ghostnetv2_100", "convnext_atto"])
def test_strides_and_channels(name: str) -> None:
    row = compare_one(name)
    assert row.error == ""
    assert OPEN not in row.verdicts
    assert {stride for stride, _, _ in row.ours} == {stride for stride, _, _ in row.theirs}


def test_a_disagreement_without_a_verdict_is_open() -> None:
    row = StageRow("a", "resnet", [(4, 64, "layer1"), (8, 128, "layer2")], [(4, 64, "layer1"), (8, 96, "gate")])
    assert row.disagreements == ["8: layer2 (128) | gate (96)"]
    assert row.open
    assert draw([row]).endswith("- `resnet/a` stride 8: layer2 (128) | gate (96): no verdict")
    stem = StageRow("b", "convnext", [(4, 64, "stages.0")], [(2, 24, "stem.0"), (4, 64, "stages.0")])
    assert stem.disagreements == ["2: – | stem.0 (24)"]
    assert not stem.open


def test_strides_are_rounded_as_timm_counts_them() -> None:
    known = [(8, 1, "a"), (16, 1, "b"), (64, 1, "c")]
    assert snapped([(9, 1, "x"), (17, 1, "y"), (56, 1, "z"), (32, 1, "w")], known) == [
        (8, 1, "x"),
        (16, 1, "y"),
        (64, 1, "z"),
        (32, 1, "w"),
    ]


def test_what_is_compared_is_not_compared_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--only", "lcnet_03*", "--out", str(tmp_path / "rows.jsonl")]
    assert main(arguments) == 0
    assert "1/1 mobilenetv3/lcnet_035" in capsys.readouterr().err
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
