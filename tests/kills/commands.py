"""The commands that are killed, what they make, and how that is told from half of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from attn_surgeon.artefact.storage import read_artefact_tensors, read_payload
from attn_surgeon.artefact.tensors import hash_tensors
from attn_surgeon.finetune.checkpoint import CHECKPOINT
from attn_surgeon.finetune.run_folders import REQUEST

ROOT = Path(__file__).parents[2]
ARTEFACT = "demo-se.safetensors"
LONGEST = 600  # seconds for one command
INSERT = ("insert", "demo", "--block", "se", "--after", "layer3")
FINETUNE = (
    *("finetune", ARTEFACT, "--data", "demo", "--out", "run", "--limit", "160", "--batch-size", "16"),
    *("--epochs", "2", "--checkpoint-steps", "2"),
)


@dataclass(frozen=True)
class Command:
    """A command line, the name of what it makes, and a function that returns the hash of that.

    Args:
        name: the verb.
        arguments: of the command line.
        makes: the file or folder.
        digest: returns the hash of what was made; raises an error of any kind where it is not whole.
        resume: the command that goes on with what was begun, where there is one.
    """

    name: str
    arguments: tuple[str, ...]
    makes: str
    digest: Callable[[Path], str]
    resume: tuple[str, ...] = ()

    def prepare(self, folder: Path, artefact: Path) -> None:
        """Make a folder with what the command reads."""
        folder.mkdir()
        if ARTEFACT in self.arguments:
            shutil.copy(artefact, folder / ARTEFACT)


def start(arguments: tuple[str, ...], folder: Path) -> subprocess.Popen[str]:
    """Start attn-surgeon in a folder with one thread, so that sums come out alike."""
    return subprocess.Popen(
        [sys.executable, "-m", "attn_surgeon", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


def artefact_digest(path: Path) -> str:
    """Return the hash of an artefact's tensors, once its metadata were read too."""
    read_payload(path)
    return hash_tensors(read_artefact_tensors(path))


def onnx_digest(path: Path) -> str:
    """Return the hash of an ONNX file, which must be valid."""
    onnx.checker.check_model(str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_digest(folder: Path) -> str:
    """Return the hash of what a finished run has trained, once all its files were read."""
    read_run(folder)
    return artefact_digest(folder / "last.safetensors")


def read_run(folder: Path) -> None:
    """Read every file that a run writes, where it is there."""
    for path in sorted(folder.rglob("*")):
        if path.name == CHECKPOINT:
            torch.load(path, weights_only=True)
        elif path.suffix == ".safetensors":
            artefact_digest(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text().splitlines()]


def is_begun(folder: Path) -> bool:
    """Whether a run folder can be resumed."""
    return (folder / REQUEST).exists()


COMMANDS = (
    Command("insert", INSERT, "demo-se.safetensors", artefact_digest),
    Command("finetune", FINETUNE, "run", run_digest, ("finetune", "--resume", "run")),
    Command("export", ("export", ARTEFACT, "--onnx"), "demo-se.onnx", onnx_digest),
)
