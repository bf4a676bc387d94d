"""The example of a block of one's own, as a script and from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.example_files import REPO

SCRIPT = REPO / "examples" / "own_block.py"


def run(*arguments: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script(tmp_path: Path) -> None:
    assert run(str(SCRIPT), folder=tmp_path) == "the same output: True\n"


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path) -> None:
    block = f"se+{SCRIPT}:Contrast"
    out = run(
        "-m",
        "attn_surgeon",
        "insert",
        "demo",
        "--block",
        block,
        "--at",
        "residual",
        "--set",
        "power=2",
        folder=tmp_path,
    )
    assert "6 grafts of se+own_block.py:Contrast" in out
    assert "certificate: passed" in out
    artefact = "demo-se+Contrast.safetensors"
    assert (tmp_path / artefact).exists()
    assert "certificate: passed" in run(
        "-m", "attn_surgeon", "verify", artefact, "--own", f"{SCRIPT}:Contrast", folder=tmp_path
    )
