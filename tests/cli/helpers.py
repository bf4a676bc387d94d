"""What the tests of the command line share."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attn_surgeon.blocks import block_names

REPO = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds; a busy machine takes long to import torch
BLOCKS = tuple(block_names())
INSERT = ("insert", "demo", "--block", "cbam", "--after", "layer3")


@dataclass(frozen=True)
class Done:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Read stdout, which must be one JSON document as a whole."""
        return json.loads(self.out)


Cli = Callable[..., Done]


def contents() -> dict[str, str]:
    """Hash every file in the current folder, by path."""
    files = (path for path in Path().rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(cli: Cli, *arguments: str) -> str:
    """Run a wrong request; it must say so in one line and write nothing. Give the line."""
    before = contents()
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert contents() == before
    line, rest = done.err.split("\n", 1)
    assert rest == "", done.err
    assert line.startswith("error: ")
    assert "Traceback" not in line
    assert len(line) <= 300, line
    return line


def environment(**extra: str) -> dict[str, str]:
    """Give the environment for a real process that finds this package."""
    return {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", **extra}


def start(*command: str, **extra: str) -> subprocess.Popen[str]:
    """Start a real Python process in the current folder."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment(**extra),
    )


def process(*command: str, **extra: str) -> Done:
    """Run a real Python process in the current folder to its end."""
    running = start(*command, **extra)
    out, err = running.communicate(timeout=PATIENCE)
    return Done(running.returncode, out, err)


def wait_for(path: Path) -> None:
    """Wait until a process has made a file."""
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.01)
