"""Ctrl-C and worse in the middle: exit 130, and no half-written file under any name."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.turns import in_turns

from .helpers import INSERT, contents, start, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")

SLOW = """
import time
from pathlib import Path
from attn_surgeon.networks.demo.network import DemoNet

class Slow(DemoNet):
    calls = 0

    def forward(self, x):
        Slow.calls += 1
        if Slow.calls > WAIT_AFTER:
            Path("waiting").touch()
            time.sleep(60)
        return super().forward(x)

def net():
    return Slow()
"""
WAITS_IN_WRITE = """
import os, sys, time
from pathlib import Path
from attn_surgeon.cli.app import main

real = os.fsync
def fsync(handle):
    Path("waiting").touch()
    time.sleep(60)

os.fsync = fsync
sys.argv = ["attn-surgeon", *sys.argv[1:]]
main()
"""
IMAGES = ("--mean", "0.5", "--std", "0.5", "--size", "32")


def interrupted(*command: str, with_signal: int = signal.SIGINT) -> tuple[int, str, str]:
    running = start(*command)
    wait_for(Path("waiting"))
    Path("waiting").unlink()
    running.send_signal(with_signal)
    out, err = running.communicate(timeout=240)
    return running.returncode, out, err


EVALUATE = ("evaluate", "slow.py:net", "--data", "demo", "--batch-size", "9")
SLOW_INSERT = ("insert", "slow.py:net", *INSERT[2:], "--weights", "none")


@pytest.mark.parametrize(
    ("command", "calls", "kill"),
    [
        (EVALUATE, 0, "SIGINT"),
        pytest.param(EVALUATE, 4, "SIGTERM", marks=pytest.mark.slow),
        pytest.param(SLOW_INSERT, 0, "SIGHUP", marks=pytest.mark.slow),
        (SLOW_INSERT, 4, "SIGTERM"),
    ],
)
def test_interrupting_exits_130_in_one_line(command: tuple[str, ...], calls: int, kill: str) -> None:
    Path("slow.py").write_text(SLOW.replace("WAIT_AFTER", str(calls)))
    code, out, err = interrupted("-m", "attn_surgeon", *command, *IMAGES, with_signal=getattr(signal, kill))
    assert (code, out) == (130, "")
    assert [line for line in err.splitlines() if line] == ["error: interrupted"]
    assert {name for name in contents() if "pycache" not in name} == {"slow.py"}


def test_interrupting_the_writing_leaves_nothing() -> None:
    code, _, err = interrupted("-c", WAITS_IN_WRITE, *INSERT, "--no-verify")
    assert code == 130
    assert "Traceback" not in err
    assert contents() == {}


@pytest.mark.parametrize("kill", in_turns([getattr(signal, "SIGKILL", signal.SIGTERM), signal.SIGINT], 2))
def test_whatever_ends_the_writing_the_old_file_stays(artefact: str, kill: int) -> None:
    before = contents()[artefact]
    interrupted("-c", WAITS_IN_WRITE, *INSERT, "--no-verify", "--force", "-o", artefact, with_signal=kill)
    assert contents()[artefact] == before


def test_a_kill_in_the_writing_leaves_no_file_of_that_name() -> None:
    interrupted("-c", WAITS_IN_WRITE, *INSERT, "--no-verify", with_signal=getattr(signal, "SIGKILL", signal.SIGTERM))
    assert not Path("demo-cbam.safetensors").exists()
    assert list(Path().glob("*.safetensors")) == []
