"""Whether a killed run ends as one that never was: python -m tests.benchmarks.kills.

Fine-tunes the demo with CBAM on its residual branches in a process of its own, kills that at a random moment after its
first checkpoint, resumes it, and compares every bit of the weights with those of a run that nothing ended. Prints a
line a kill.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from attn_surgeon.artefact.storage import read_artefact_tensors
from attn_surgeon.artefact.tensors import hash_tensors
from attn_surgeon.finetune.checkpoint import CHECKPOINT

RUN = ("--data", "demo", "--limit", "320", "--batch-size", "32", "--epochs", "2", "--checkpoint-steps", "3")
WEIGHTS = "last.safetensors"
LONGEST = 600  # seconds for one command


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start attn-surgeon with one thread, so that sums come out alike."""
    return subprocess.Popen(
        [sys.executable, "-m", "attn_surgeon", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(running: subprocess.Popen[str]) -> None:
    """Wait for the end, which must be a good one."""
    _, said = running.communicate(timeout=LONGEST)
    if running.returncode:
        raise SystemExit(f"a command failed:\n{said}")


def begin(artefact: Path, run: Path) -> subprocess.Popen[str]:
    """Start a fine-tune and wait for its first checkpoint."""
    running, end = start("finetune", str(artefact), *RUN, "--out", str(run)), time.monotonic() + LONGEST
    while not (run / CHECKPOINT).exists():
        if running.poll() is not None or time.monotonic() > end:
            running.kill()
            raise SystemExit(f"no checkpoint came:\n{running.communicate()[1]}")
        time.sleep(0.005)
    return running


def uninterrupted(artefact: Path, run: Path) -> float:
    """Train to the end; give the seconds from the first checkpoint to the last."""
    running, since = begin(artefact, run), time.time()
    finish(running)
    return (run / CHECKPOINT).stat().st_mtime - since


def killed(artefact: Path, run: Path, wait: float) -> str:
    """Kill a run so long after its first checkpoint, and say where that had come to."""
    running = begin(artefact, run)
    time.sleep(wait)
    running.kill()
    running.communicate()
    if not running.returncode:
        raise SystemExit("a run ended before it was killed; try again with another --seed")
    position = torch.load(run / CHECKPOINT, weights_only=True)["position"]
    return f"killed {wait:5.2f} s after the first checkpoint, the last one at step {position['step']:2}"


def weights(run: Path) -> str:
    """Hash what a run ended with; tensors only, as the order of a file's metadata is not always the same."""
    return hash_tensors(read_artefact_tensors(run / WEIGHTS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill, resume and compare, again and again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    dice, same = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artefact = folder / "demo-cbam.safetensors"
        finish(start("insert", "demo", "--block", "cbam", "--at", "residual", "-o", str(artefact)))
        seconds = uninterrupted(artefact, folder / "whole")
        wanted = weights(folder / "whole")
        for number in range(1, given.kills + 1):
            run = folder / f"killed-{number}"
            said = killed(artefact, run, dice.uniform(0, seconds))
            finish(start("finetune", "--resume", str(run)))
            alike = weights(run) == wanted
            same += alike
            print(f"{number:3}: {said}; {WEIGHTS} {'is the same' if alike else 'DIFFERS'}", flush=True)
    print(f"{same} of {given.kills} killed runs ended with the same {WEIGHTS}, bit for bit")
    sys.exit(same < given.kills)


if __name__ == "__main__":
    main()
