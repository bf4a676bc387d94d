"""The sweep's own parts: quick building, verdicts, the file of rows, the table, and processes that are lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from .__main__ import main, read_rows
from .groups import GroupRow
from .quick import build
from .row import Row, Settings, shortfalls
from .table import draw_table
from .workers import Workers


def row(name: str = "resnet18", **changes: object) -> Row:
    good = GroupRow(2, 2, {"fx": 2}, 0, [], True, True, True, True, True)
    groups = dict.fromkeys(("stages", "blocks", "head", "residual"), good)
    return Row("timm", name, "classification", "resnet", **{"groups": groups, **changes})  # type: ignore[arg-type]


def test_built_networks_are_random_finite_and_nowhere_zero() -> None:
    model = build(lambda: nn.Sequential(nn.Linear(1200, 1000), nn.BatchNorm1d(1000)), largest=10**7)
    weight = model.get_parameter("0.weight")
    assert bool(weight.isfinite().all())
    assert weight.std().item() == pytest.approx(1200**-0.5 / 3**0.5, rel=0.01)
    assert torch.linalg.matrix_rank(weight.detach()).item() == 1000
    assert all(bool(parameter.any()) for parameter in model.parameters())


def test_large_networks_are_built_without_memory() -> None:
    model = build(lambda: nn.Linear(1000, 1000), largest=999_999)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_verdict() -> None:
    assert shortfalls(row()) == []
    assert shortfalls(row(error="it broke", phase="build")) == ["build: it broke"]
    groups = row().groups
    assert shortfalls(row(groups={**groups, "stages": GroupRow()})) == []
    assert shortfalls(row(groups={**groups, "residual": GroupRow()})) == []
    assert shortfalls(row(groups={**groups, "residual": GroupRow(3)})) == ["residual: no graft"]
    assert shortfalls(row(groups={**groups, "head": GroupRow()})) == ["head: no graft"]
    wrong = GroupRow(1, 1, {"fx": 1}, 0, [], False, True, True, "1 of 1 have none", True)
    found = ["head: identity_eval: False", "head: gradients: 1 of 1 have none"]
    assert shortfalls(row(groups={**groups, "head": wrong})) == found


def test_last_row_counts_and_a_line_that_was_cut_off_does_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(item.to_dict()) for item in (row(error="it broke", phase="build"), row())]
    path.write_text("\n".join([*lines, lines[0][:50]]))
    assert read_rows(path) == {("timm", "resnet18"): row()}


def test_table_counts_and_names_what_does_not_pass() -> None:
    rows = [row(), row("resnet34", error="it broke", phase="build"), row("resnet50", skipped="quantised")]
    table = draw_table(rows)
    assert "| timm | classification | 3 | 1 (50.0 %) | 2 of 2 |" in table
    assert "- `timm/resnet34`: build: it broke" in table
    assert "Excluded (quantised): `resnet50`." in table


def test_what_takes_too_long_costs_one_row() -> None:
    with Workers(Settings(groups=()), limit=0.0) as workers:
        lost = workers.row("timm", "lcnet_035")
        assert lost.error == "lost: it took more than 0 s"
        workers.limit = 60.0
        found = workers.row("timm", "lcnet_035")
        assert found.error == ""
        assert found.shape == [[2, 3, 64, 64]]


def test_a_process_that_ends_costs_one_row() -> None:
    with Workers(Settings(groups=()), limit=60.0) as workers:
        workers.row("timm", "lcnet_035")
        assert workers._worker is not None
        workers._worker.process.kill()
        lost = workers.row("timm", "lcnet_035")
        assert lost.error == "lost: its process ended for want of memory, or was killed"
        assert workers.row("timm", "lcnet_035").error == ""


def test_a_second_run_continues_where_the_first_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    arguments = ["torchvision", "--only", "quantized_resne*", "--out", str(out)]
    assert main(arguments) == 0
    assert "4/4 torchvision/quantized_resnext101_64x4d" in capsys.readouterr().err
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    assert len(out.read_text().splitlines()) == 4
