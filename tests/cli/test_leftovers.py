"""What killed commands leave, and two commands that write to one place."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from .helpers import INSERT, Cli, contents, process, refused, start, wait_for
from .test_interruption import WAITS_IN_WRITE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks differ there")
RUN = ("--data", "demo", "--limit", "32", "--batch-size", "16", "--epochs", "1", "--json")
LEFT = (".request.json.abcd1234.tmp", ".request.json.lock")


def test_a_run_that_was_killed_before_it_began_is_started_again(cli: Cli, artefact: str) -> None:
    Path("run").mkdir()
    for name in LEFT:
        Path("run", name).touch()
    assert "start the run again" in refused(cli, "finetune", "--resume", "run")
    assert cli("finetune", artefact, *RUN, "--out", "run").code == 0
    assert not [name for name in contents() if Path(name).name.startswith(".")]


def test_what_a_kill_leaves_is_removed_when_the_run_is_resumed(cli: Cli, artefact: str) -> None:
    assert cli("finetune", artefact, *RUN, "--out", "run").code == 0
    before = contents()
    for name in LEFT:
        Path("run", name).touch()
    assert cli("finetune", "--resume", "run", "--json").code == 0
    assert contents().keys() == before.keys()


def test_of_two_commands_that_write_one_file_the_second_is_refused(cli: Cli) -> None:
    first = start("-c", WAITS_IN_WRITE, *INSERT, "--no-verify")
    wait_for(Path("waiting"))
    line = refused(cli, *INSERT, "--force")
    assert f"another process (pid {first.pid}) is writing this; " in line
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert process("-m", "attn_surgeon", *INSERT, "--no-verify").code == 0
    assert sorted(contents()) == ["demo-cbam.safetensors", "waiting"]


def test_of_two_commands_in_one_run_folder_the_second_is_refused(cli: Cli, artefact: str) -> None:
    first = start("-c", WAITS_IN_WRITE, "finetune", artefact, *RUN, "--out", "run")
    wait_for(Path("waiting"))
    for command in (("finetune", "--resume", "run"), ("finetune", artefact, *RUN[:-1], "--out", "run")):
        assert f"another process (pid {first.pid})" in refused(cli, *command)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert cli("finetune", artefact, *RUN, "--out", "run").code == 0
