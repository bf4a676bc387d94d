"""A process that sweeps one architecture after the other, so that a crash, a hang or no memory costs one row."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from types import TracebackType

import torch

from .row import Row, Settings, empty_row, sweep_one

_START = 120.0  # seconds in which a fresh process must have imported everything
_ROWS = 100  # rows after which a process is replaced, so that leaks do not add up
# freed memory is kept, for taking it from the system again costs more than the networks themselves
MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}


class Workers:
    """Sweep architectures one at a time in a process that is replaced whenever it is lost."""

    def __init__(self, settings: Settings, limit: float) -> None:
        self.settings, self.limit = settings, limit
        self._worker: _Worker | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop()

    def row(self, library: str, name: str) -> Row:
        """Sweep one architecture; where the process is lost, the row says in which phase."""
        if self._worker is None or self._worker.rows >= _ROWS:
            self._stop()
            self._worker = _Worker(self.settings)
        row = self._worker.row(library, name, self.limit)
        if row.error.startswith("lost: "):
            self._stop()
        return row

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
        self._worker = None


class _Worker:
    def __init__(self, settings: Settings) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, settings), daemon=True)
        self.process.start()
        theirs.close()
        self.rows = 0
        self.ready = self.pipe.poll(_START) and bool(self.pipe.recv())

    def row(self, library: str, name: str, limit: float) -> Row:
        self.rows += 1
        row, started = empty_row(library, name), perf_counter()
        try:
            self.pipe.send((library, name))
            while self.pipe.poll(max(0.0, limit - (perf_counter() - started))):
                answer = self.pipe.recv()
                if isinstance(answer, Row):
                    return answer
                row.phase = answer
            row.error = f"lost: it took more than {limit:.0f} s"
        except (EOFError, OSError):
            self.process.join(10)
            row.error = f"lost: its process ended{_reason(self.process.exitcode)}"
        row.seconds = round(perf_counter() - started, 2)
        return row

    def stop(self) -> None:
        self.process.kill()
        self.process.join(10)
        self.pipe.close()


def _reason(code: int | None) -> str:
    killed = code == -signal.SIGKILL
    return " for want of memory, or was killed" if killed else f" with code {code}"


def _serve(pipe: Connection, settings: Settings) -> None:
    torch.set_num_threads(1)
    with suppress(OSError):  # where memory runs out, this process goes and not the sweep
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(EOFError, OSError):  # whoever asked is gone
        pipe.send("ready")
        while True:
            library, name = pipe.recv()
            pipe.send(sweep_one(library, name, settings, pipe.send))


def keep_memory(variables: Sequence[str] = tuple(MEMORY)) -> None:
    """Let processes started from here keep the memory they free."""
    for name in variables:
        os.environ.setdefault(name, MEMORY[name])
