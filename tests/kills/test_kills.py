"""A smoke test of the kills: one command, killed early, and run again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .__main__ import summary
from .cases import Case, Whole, run_case
from .commands import COMMANDS, Command


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_a_kill_and_the_run_after_it(tmp_path: Path) -> None:
    """Kill the copying of a recipe, which needs no torch."""
    copies = Command("recipes", ("recipes", "copy", "demo-cbam", "out.yaml"), "out.yaml", lambda path: path.read_text())
    recipe = Path(__file__).parents[2] / "recipes" / "demo-cbam.yaml"
    found = run_case(copies, signal.SIGKILL, 0.4, Whole(recipe.read_text(), 1.0), tmp_path / "case", tmp_path)
    assert found.faults == ()


def test_half_an_output_is_a_fault(tmp_path: Path) -> None:
    script = "import sys, time; open('out', 'w').write('ha'); time.sleep(0.8)"
    half = Command("half", (), "out", lambda path: path.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.kills.cases.start", lambda arguments, folder: started(script, folder))
        found = run_case(half, signal.SIGTERM, 0.4, Whole("half", 1.0), tmp_path / "case", tmp_path)
    assert "the output is another" in found.faults


def started(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script], cwd=folder, stderr=subprocess.PIPE, text=True)


def test_the_table_counts_cases_by_where_they_ended() -> None:
    found = [Case("insert", "SIGKILL", 1.0, "in time", ()), Case("insert", "SIGKILL", 1.0, "half-way", ("bad",))]
    assert summary(found).splitlines()[-1] == "| insert | SIGKILL | 0 | 1 | 1 | 1 of 2 |"


def test_the_three_verbs_are_killed() -> None:
    assert [command.name for command in COMMANDS] == ["insert", "finetune", "export"]
