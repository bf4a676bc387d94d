"""Judge one case: refused as it should be, accepted, or a fault."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attn_surgeon.errors import SurgeonError

LONGEST_MESSAGE = 300  # characters
LONGEST = 5.0  # seconds of CPU
LARGEST = 1000.0  # megabytes
CANARY = "surgeon_canary"  # a module that no case may import
_CODE = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen")
_ran: list[str] = []
_armed: list[bool] = []


class FaultError(Exception):
    """Report a case that broke a promise; `signature` names the same fault in other cases."""

    def __init__(self, what: str, signature: str) -> None:
        super().__init__(what)
        self.signature = signature


class _TooLong(BaseException):
    pass


@dataclass
class Tally:
    """What came of the cases of a kind."""

    cases: int = 0
    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    largest: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _armed and (event in _CODE or (event == "import" and arguments[0] == CANARY)):
        _ran.append(event)


sys.addaudithook(_audit)


def judge(case: Callable[[], object], tally: Tally, longest: float = LONGEST) -> None:
    """Run a case and count it; raise FaultError where it breaks a promise."""
    before, start = _memory("VmRSS"), time.process_time()
    error = _outcome(case, longest)
    seconds, grown = time.process_time() - start, max(0.0, _memory("VmHWM") - before)
    if grown > LARGEST / 10:
        _forget_peak()
    tally.cases += 1
    tally.slowest, tally.largest = max(tally.slowest, seconds), max(tally.largest, grown)
    if isinstance(error, SurgeonError):
        tally.refused += 1
        _require_short(error)
    elif error is not None:
        raise FaultError(f"{type(error).__name__}: {str(error)[:300]}", _place(error)) from error
    else:
        tally.accepted += 1
    if seconds > longest:
        raise FaultError(f"it took {seconds:.1f} s", "slow")
    if grown > LARGEST:
        raise FaultError(f"it took {grown:.0f} MB", "large")
    if _ran:
        raise FaultError(f"code was run: {', '.join(_ran)}", "code")


def _outcome(case: Callable[[], object], longest: float) -> BaseException | None:
    _ran.clear()
    _armed.append(True)
    try:
        with _alarm(longest * 1.2):
            case()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        return error
    finally:
        _armed.clear()
    return None


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise _TooLong(f"more than {seconds} s of CPU")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _require_short(error: SurgeonError) -> None:
    text = str(error)
    if not text.strip() or not text.isprintable() or len(text) > LONGEST_MESSAGE:
        raise FaultError(f"a message of {len(text)} characters: {text[:200]!r}", f"message {_place(error)}")


def _place(error: BaseException) -> str:
    """Return the class of an exception and the line that raised it, the deepest in the package."""
    line, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "attn_surgeon/" in file:
            line = f"{file.rpartition('attn_surgeon/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {line}"


def _memory(key: str) -> float:
    """Return a size of this process in megabytes, 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
