"""What killed commands leave, and two commands that write to one place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from .helpers import INSERT, Cli, contents, refused, start, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks differ there")
RUN = ("--data", "demo", "--limit", "32", "--batch-size", "16", "--epochs", "1", "--json")
HOLDS = """
import sys, time
from pathlib import Path
from attn_surgeon.files import claimed
with claimed(Path(sys.argv[1])):
    Path("waiting").touch()
    time.sleep(60)
"""
LEFT = (".request.json.abcd1234.tmp", ".request.json.lock")


def leave() -> None:
    for name in LEFT:
        Path("run", name).touch()


@pytest.mark.slow
def test_a_run_that_was_killed_before_it_began_is_started_again_and_one_later_resumed(cli: Cli, artefact: str) -> None:
    Path("run").mkdir()
    leave()
    assert "start the run again" in refused(cli, "finetune", "--resume", "run")
    assert cli("finetune", artefact, *RUN, "--out", "run").code == 0
    before = contents().keys()
    assert not [name for name in before if Path(name).name.startswith(".")]
    leave()
    assert cli("finetune", "--resume", "run", "--json").code == 0
    assert contents().keys() == before


def test_a_run_is_not_resumed_on_other_data(cli: Cli, artefact: str) -> None:
    for name in ("train/0", "train/1", "val/0", "val/1"):
        Path("data", name).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (32, 32), 40 * number).save(Path("data", name, f"{number}.png"))
    run = ("--data", "data", "--batch-size", "2", "--epochs", "1", "--leaks", "warn", "--json")
    assert cli("finetune", artefact, *run, "--out", "run").code == 0
    Path("data/train/1/1.png").unlink()
    line = refused(cli, "finetune", "--resume", "run")
    assert "the data has changed since the run began: train/1 has 1 file, not 2; data; restore it" in line


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("demo-cbam.safetensors", (*INSERT, "--force")),
        ("run", ("finetune", "demo-cbam.safetensors", *RUN[:-1], "--out", "run")),
        ("run", ("finetune", "--resume", "run")),
        ("demo-cbam.onnx", ("export", "demo-cbam.safetensors", "--onnx")),
    ],
)
def test_what_another_process_writes_is_refused(cli: Cli, artefact: str, place: str, command: tuple[str, ...]) -> None:
    other = start("-c", HOLDS, place)
    wait_for(Path("waiting"))
    line = refused(cli, *command)
    other.kill()
    other.communicate()
    assert f"another process (pid {other.pid}) is writing this; " in line
