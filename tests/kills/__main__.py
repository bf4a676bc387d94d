"""Kill insert, finetune and export at random moments: python -m tests.kills [--cases 60] [--seed 0].

Each case starts a command in a process of its own and sends it SIGKILL or SIGTERM, spread evenly over the command's
life. Outputs must be absent or whole, the next run must do its work or say what to do, and end as one that nothing
disturbed, bit for bit. Prints a line a case and a table; exits 1 where anything is at fault.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .cases import Case, run_case, undisturbed
from .commands import ARTEFACT, COMMANDS

SIGNALS = (getattr(signal, "SIGKILL", signal.SIGTERM), signal.SIGTERM)


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Yield so many cases, in turn of each command with each signal."""
    insert = COMMANDS[0]
    whole = {insert: undisturbed(insert, folder / "insert", folder)}
    artefact = folder / "insert" / ARTEFACT
    dice, each = random.Random(seed), len(COMMANDS) * len(SIGNALS)
    for number in range(count):
        command, kill = COMMANDS[number % len(COMMANDS)], SIGNALS[number // len(COMMANDS) % len(SIGNALS)]
        if command not in whole:
            whole[command] = undisturbed(command, folder / command.name, artefact)
        part = (number // each + dice.random()) / -(-count // each)  # evenly over its life
        seconds = whole[command].seconds
        yield run_case(command, kill, part * seconds, whole[command], folder / f"case-{number}", artefact)


def summary(found: Sequence[Case]) -> str:
    """Return a table in Markdown: cases of each command and signal by where they ended, and those without a fault."""
    lines = [
        "| command | signal | killed before its output | half-way | after its end | good |",
        "|---|---|---|---|---|---|",
    ]
    for command, kill in sorted({(case.command, case.kill) for case in found}):
        own = [case for case in found if (case.command, case.kill) == (command, kill)]
        ends = [sum(case.ended == end for case in own) for end in ("before its output", "half-way", "in time")]
        good = f"{sum(not case.faults for case in own)} of {len(own)}"
        lines.append(f"| {command} | {kill} | {' | '.join(map(str, ends))} | {good} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill commands and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory() as name:
        for case in cases(given.cases, given.seed, Path(name)):
            found.append(case)
            print(f"{len(found):3}: {case.line}", flush=True)
    print(summary(found))
    return int(any(case.faults for case in found))


if __name__ == "__main__":
    sys.exit(main())
