"""ONNX Runtime in a process of its own, which may crash on a graph without taking this one with it."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attn_surgeon.errors import ExportError

Array = NDArray[Any]
Feeds = Mapping[str, Array]
CPU = ("CPUExecutionProvider",)
_KILLED = -9  # by the system, with a signal that Windows has no name for
WORKER = ("-m", "attn_surgeon.export.onnx.worker")


@dataclass(frozen=True)
class Session:
    """An ONNX file that runs, and the providers that run it."""

    path: Path
    providers: tuple[str, ...]
    process: subprocess.Popen[bytes]

    def run(self, feeds: Feeds) -> list[Array]:
        """Compute all outputs; raise ExportError where ONNX Runtime cannot."""
        found: list[Array] = _ask(self.process, self.path, "run", dict(feeds))
        return found

    def time(self, feeds: Feeds) -> float:
        """Run once and give the seconds."""
        found: float = _ask(self.process, self.path, "time", dict(feeds))
        return found


@contextmanager
def opened(path: Path, providers: Sequence[str] = CPU, threads: int = 1) -> Iterator[Session]:
    """Open an ONNX file in ONNX Runtime; raise ExportError where it is refused or crashes the runtime."""
    command = [sys.executable, *WORKER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        found = _ask(process, path, "open", str(path), list(providers), threads)
        yield Session(path, tuple(found), process)
    finally:
        process.kill()
        process.communicate()


def _ask(process: subprocess.Popen[bytes], path: Path, *request: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(request, process.stdin)
        process.stdin.flush()
        state, answer = pickle.load(process.stdout)
    except (BrokenPipeError, EOFError):
        code = process.wait()
        if code == _KILLED:
            what = "the system ended ONNX Runtime on this file, as it does where memory runs out"
            raise ExportError(what, path.name, "take smaller images, or fewer at a time: --dynamic none") from None
        what = f"ONNX Runtime crashed on this file (exit code {code})"
        raise ExportError(what, path.name, "export it in another precision or opset") from None
    if state == "failed":
        raise ExportError(f"ONNX Runtime refuses this file: {_said(str(answer))[:300]}", path.name)
    return answer


def _said(answer: str) -> str:
    """Leave out of ONNX Runtime's words its own places in C++."""
    return re.sub(r"/\S*onnxruntime/\S+:\d+ .*?\) (?=\S)", " ", " ".join(answer.split()))


def as_feeds(name: str, value: Any) -> dict[str, Array]:
    """Name a tensor as the one input."""
    return {name: np.ascontiguousarray(value.numpy())}
