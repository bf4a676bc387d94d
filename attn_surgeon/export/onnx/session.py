"""ONNX Runtime in a process of its own, which may crash on a graph without taking this one with it."""

from __future__ import annotations

import logging
import pickle
import re
import subprocess
import sys
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

Feeds = Mapping[str, Array]
CPU = ("CPUExecutionProvider",)
WORKER = ("-m", "attn_surgeon.export.onnx.worker")
_KILLED = -9  # SIGKILL, which Windows has no name for
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")  # both install the package `onnxruntime`


@dataclass(frozen=True)
class OnnxSession:
    """An ONNX file open in ONNX Runtime, and the providers that run it."""

    path: Path
    providers: tuple[str, ...]
    process: subprocess.Popen[bytes]

    def run(self, feeds: Feeds) -> list[Array]:
        """Return all outputs; raise ExportError where ONNX Runtime fails."""
        found: list[Array] = _ask(self.process, self.path, "run", dict(feeds))
        return found

    def time(self, feeds: Feeds) -> float:
        """Run once and return the seconds it took."""
        found: float = _ask(self.process, self.path, "time", dict(feeds))
        return found


@contextmanager
def open_session(path: Path, providers: Sequence[str] = CPU, threads: int = 1) -> Iterator[OnnxSession]:
    """Yield an ONNX file opened in ONNX Runtime; raise ExportError where it is rejected or crashes the runtime."""
    command = [sys.executable, *WORKER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        found = _ask(process, path, "open", str(path), list(providers), threads)
        _warn_of_conflict()
        yield OnnxSession(path, tuple(found), process)
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
        raise _crash(process.wait(), path) from None
    if state == "missing":
        raise ExportError(str(answer), "", conflict() or "pip install onnxruntime, or onnxruntime-gpu")
    if state == "failed":
        raise ExportError(f"ONNX Runtime rejects this file: {without_places(str(answer))[:300]}", path.name, conflict())
    return answer


def _crash(code: int, path: Path) -> ExportError:
    if code == _KILLED:
        what = "the system killed ONNX Runtime on this file, as it does when memory runs out"
        return ExportError(what, path.name, f"use smaller images, or a fixed batch: {option('dynamic', 'none')}")
    what = f"ONNX Runtime crashed on this file (exit code {code})"
    return ExportError(what, path.name, conflict() or "export it in another precision or opset")


def conflict() -> str:
    """Return what to do where both packages of ONNX Runtime are installed and break each other; empty otherwise."""
    if not all(map(_is_installed, _DISTRIBUTIONS)):
        return ""
    both = " and ".join(_DISTRIBUTIONS)
    keep = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    return f"{both} are both installed and overwrite each other's files; keep one: {keep}"


@cache
def _warn_of_conflict() -> None:
    if found := conflict():
        logging.getLogger(__name__).warning(found)


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def without_places(message: str) -> str:
    """Return a message of ONNX Runtime without the places in its C++ code."""
    return re.sub(r"/\S*onnxruntime/\S+:\d+ .*?\) (?=\S)", " ", " ".join(message.split()))


def as_feeds(name: str, value: Any) -> dict[str, Array]:
    """Return a tensor as the value of the one input."""
    return {name: np.ascontiguousarray(value.numpy())}
