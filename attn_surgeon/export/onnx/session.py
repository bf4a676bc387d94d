"""Run ONNX files in ONNX Runtime in a subprocess, because a graph can crash the runtime."""

from __future__ import annotations

import logging
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from attn_surgeon.errors import ExportError, option
from attn_surgeon.export.parity import Array
from attn_surgeon.memory import available_memory

Feeds = Mapping[str, Array]
CPU = ("CPUExecutionProvider",)
WORKER = ("-m", "attn_surgeon.export.onnx.worker")
OWN_TIME_LIMIT = 3600.0
_KILLED = -9  # SIGKILL, which Windows has no name for
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")  # both install the package `onnxruntime`


@dataclass(frozen=True)
class OnnxSession:
    """An inference session of ONNX Runtime for a file, with its execution providers."""

    path: Path
    providers: tuple[str, ...]
    worker: _Worker

    def run(self, feeds: Feeds) -> list[Array]:
        """Return all outputs; raise ExportError where ONNX Runtime fails."""
        outputs: list[Array] = self.worker.ask("run", dict(feeds))
        return outputs

    def time(self, feeds: Feeds) -> float:
        """Run once and return the seconds it took."""
        seconds: float = self.worker.ask("time", dict(feeds))
        return seconds


class _Worker:
    """The process that runs one file; it is killed where an answer takes longer than the time limit."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path, time_limit: float, failure: str) -> None:
        self.process, self.path, self.time_limit, self.failure = process, path, time_limit, failure
        self.is_late = False

    def ask(self, *request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(self.time_limit, self._stop)
        timer.daemon = True
        timer.start()
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            state, answer = pickle.load(self.process.stdout)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            code = self.process.wait()
            raise self._late() if self.is_late else _crash(code, self.path) from None
        finally:
            timer.cancel()
        return _checked(state, answer, self.path, self.failure)

    def _stop(self) -> None:
        self.is_late = True
        self.process.kill()

    def _late(self) -> ExportError:
        what = f"ONNX Runtime was stopped after {self.time_limit:g} s"
        return ExportError(what, self.path.name, f"allow more with {option('time_limit', 'SECONDS')}")


def default_time_limit(path: Path) -> float:
    """Return the seconds that running an ONNX file once may take, more for a larger file."""
    beside = path.with_name(f"{path.name}.data")
    size = sum(file.stat().st_size for file in (path, beside) if file.is_file())
    return 10 + size // 10**6


@contextmanager
def open_session(
    path: Path, providers: Sequence[str] = CPU, threads: int = 1, time_limit: float = OWN_TIME_LIMIT
) -> Iterator[OnnxSession]:
    """Yield an ONNX file opened in ONNX Runtime; raise ExportError where it is rejected or crashes the runtime.

    Args:
        path: the file.
        providers: ONNX Runtime's execution providers, the first that works is used.
        threads: the number of threads of an operator.
        time_limit: seconds after which opening it, or running it once, is given up; by default those for a file that
            this package has written.
    """
    memory = available_memory() if tuple(providers) == CPU else None  # GPUs' address spaces count as memory
    with _started(path, time_limit, "ONNX Runtime rejects this file") as worker:
        available = worker.ask("open", str(path), list(providers), threads, memory)
        _warn_of_conflict()
        yield OnnxSession(path, tuple(available), worker)


def quantise(
    source: Path,
    target: Path,
    feeds: Sequence[Feeds],
    *,
    excluded: Sequence[str] = (),
    biases: bool = True,
    time_limit: float = OWN_TIME_LIMIT,
) -> None:
    """Write an int8 file by static quantisation in ONNX Runtime; raise ExportError where that fails.

    Args:
        source: the file in single precision.
        target: the file to write.
        feeds: the inputs for calibration.
        excluded: the names of the nodes that stay in single precision.
        biases: quantise biases too.
        time_limit: seconds after which it is given up.
    """
    with _started(source, time_limit, "the model cannot be quantised to integers") as worker:
        worker.ask("quantise", (str(source), str(target)), list(feeds), list(excluded), biases)


@contextmanager
def _started(path: Path, time_limit: float, failure: str) -> Iterator[_Worker]:
    """Yield a process that has ONNX Runtime, and end it."""
    command = [sys.executable, *WORKER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield _Worker(process, path, time_limit, failure)
    finally:
        process.kill()
        process.communicate()


def _checked(state: str, answer: Any, path: Path, failure: str) -> Any:
    if state == "missing":
        raise ExportError(str(answer), "", conflict() or "pip install onnxruntime, or onnxruntime-gpu")
    if state == "failed":
        raise ExportError(f"{failure}: {without_places(str(answer))[:300]}", path.name, conflict())
    return answer


def _crash(code: int, path: Path) -> ExportError:
    if code == _KILLED:
        what = "the system killed ONNX Runtime on this file, as it does when memory runs out"
        return ExportError(what, path.name, f"use smaller images, or a fixed batch: {option('dynamic', 'none')}")
    what = f"ONNX Runtime crashed on this file (exit code {code})"
    return ExportError(what, path.name, conflict() or "export it in another precision or opset")


def conflict() -> str:
    """Return a hint where both packages of ONNX Runtime are installed, which break each other; empty otherwise."""
    if not all(map(_is_installed, _DISTRIBUTIONS)):
        return ""
    both = " and ".join(_DISTRIBUTIONS)
    keep = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    return f"{both} are both installed and overwrite each other's files; keep one: {keep}"


@cache
def _warn_of_conflict() -> None:
    if hint := conflict():
        logging.getLogger(__name__).warning(hint)


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def without_places(message: str) -> str:
    """Return a message of ONNX Runtime without the file names and lines of its C++ code."""
    return re.sub(r"/\S*onnxruntime/\S+:\d+ .*?\) (?=\S)", " ", " ".join(message.split()))


def as_feeds(name: str, value: Any) -> dict[str, Array]:
    """Return a tensor as the feeds of a session with one input."""
    return {name: np.ascontiguousarray(value.numpy())}
