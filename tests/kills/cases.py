"""One case: a command is killed, what it left is looked at, and the command is run again."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .commands import LONGEST, Command, is_begun, read_run, start

INTERRUPTED = 130
STARTUP = 0.3  # seconds in which Python itself may take the signal


@dataclass(frozen=True)
class Whole:
    """What a command makes undisturbed: its hash, and the seconds it took."""

    digest: str
    seconds: float


@dataclass(frozen=True)
class Case:
    """A command that was sent a signal after some seconds, what became of it, and every fault that was found."""

    command: str
    kill: str
    after: float
    ended: str
    faults: tuple[str, ...]

    @property
    def line(self) -> str:
        """The case in one line."""
        verdict = "; ".join(self.faults) or "good"
        return f"{self.command:9}{self.kill:8} after {self.after:5.2f} s, {self.ended}: {verdict}"


def undisturbed(command: Command, folder: Path, artefact: Path) -> Whole:
    """Run a command to its end."""
    command.prepare(folder, artefact)
    since = time.monotonic()
    code, said = _finish(start(command.arguments, folder))
    if code:
        raise SystemExit(f"{command.name} failed:\n{said}")
    return Whole(command.digest(folder / command.makes), time.monotonic() - since)


def run_case(command: Command, kill: signal.Signals, after: float, whole: Whole, folder: Path, artefact: Path) -> Case:
    """Send a command a signal, and look at what it left and at what the next run makes of that."""
    command.prepare(folder, artefact)
    running = start(command.arguments, folder)
    time.sleep(after)
    running.send_signal(kill)
    code, said = _finish(running)
    faults = [*_of_the_end(kill, after, code, said), *_of_what_is_left(command, kill, code, whole, folder)]
    ended = "in time" if code == 0 else "half-way" if (folder / command.makes).exists() else "before its output"
    faults += _of_the_next_run(command, whole, folder)
    return Case(command.name, kill.name, after, ended, tuple(faults))


def _finish(running: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = running.communicate(timeout=LONGEST)
    return running.returncode, said


def _of_the_end(kill: signal.Signals, after: float, code: int, said: str) -> list[str]:
    allowed = {0, -kill} if kill == signal.SIGKILL else {0, INTERRUPTED}
    allowed |= {-kill} if after < STARTUP else set()
    found = [] if code in allowed else [f"exit code {code}: {said.strip()[-200:]}"]
    return [*found, *(["a traceback"] if "Traceback" in said else [])]


def _of_what_is_left(command: Command, kill: signal.Signals, code: int, whole: Whole, folder: Path) -> list[str]:
    made = folder / command.makes
    try:
        if command.resume and made.exists() and code:
            read_run(made)
        elif made.exists() and command.digest(made) != whole.digest:
            return ["the output is another"]
    except Exception as error:  # of whatever reads what is not whole
        return [f"the output is not whole: {error}"]
    left = [] if kill == signal.SIGKILL else _hidden(folder)
    return [f"left {', '.join(left)}"] if left else []


def _of_the_next_run(command: Command, whole: Whole, folder: Path) -> list[str]:
    """Run the same command; where it refuses to replace an output, resume it, or take that as whole."""
    made = folder / command.makes
    is_there = is_begun(made) if command.resume else made.exists()
    code, said = _finish(start(command.arguments, folder))
    if is_there and (code != 2 or len(said.strip().splitlines()) != 1 or "exists already" not in said):
        return [f"the next run does not say that its output exists: {code}, {said.strip()[-200:]}"]
    if is_there and command.resume:
        code, said = _finish(start(command.resume, folder))
    if code != 0 and not (is_there and not command.resume):
        return [f"the next run fails: {code}, {said.strip()[-200:]}"]
    same = command.digest(made) == whole.digest
    left = _hidden(folder)
    found = [] if same else ["the next run ends otherwise"]
    return [*found, *([f"{', '.join(left)} left after the next run"] if left and code == 0 else [])]


def _hidden(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))
