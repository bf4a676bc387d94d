"""Prepare networks for timing in a runtime: eager PyTorch, torch.compile, ONNX Runtime, or its TensorRT provider."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.errors import ExportError, counted, option
from attn_surgeon.export.failures import short_reason
from attn_surgeon.export.module import INPUT
from attn_surgeon.export.onnx.format import write_onnx
from attn_surgeon.export.onnx.session import CPU, OnnxSession, as_feeds, default_time_limit, open_session
from attn_surgeon.export.program import require_compiler
from attn_surgeon.export.quiet import silenced
from attn_surgeon.export.settings import ExportRequest
from attn_surgeon.measure.latency import timed
from attn_surgeon.profiling.onnx_file import OnnxInput
from attn_surgeon.profiling.profiled_network import ProfileInput, images
from attn_surgeon.surgery.isolation import mode

CUDA = ("CUDAExecutionProvider", *CPU)
TENSORRT_PROVIDERS = ("TensorrtExecutionProvider", *CUDA)
Work = Callable[[], float]


@dataclass(frozen=True)
class PreparedRuntime:
    """A network ready to be timed: the device or provider that runs it, notes, and the work for a batch size."""

    on: str
    notes: tuple[str, ...]
    work: Callable[[int], Work]


@contextmanager
def in_eager(item: ProfileInput, device: torch.device) -> Iterator[PreparedRuntime]:
    """Yield a network in eager PyTorch."""
    loaded = _of_torch(item)
    with mode(loaded.model.to(device), training=False):
        yield PreparedRuntime(str(device), (), lambda n: partial(timed, loaded.model, images(loaded, n, device)))


@contextmanager
def compiled(item: ProfileInput, device: torch.device) -> Iterator[PreparedRuntime]:
    """Yield a network for `torch.compile`; raise ExportError where there is no C++ compiler, or it fails."""
    require_compiler(option("runtime", "compile"))
    loaded = _of_torch(item)
    try:
        with mode(loaded.model.to(device), training=False):
            yield PreparedRuntime(str(device), (), partial(_compile, loaded, device))
    finally:
        torch.compiler.reset()


def _compile(loaded: LoadedNetwork, device: torch.device, batch: int) -> Work:
    run, x = torch.compile(loaded.model, dynamic=False), images(loaded, batch, device)
    with silenced():
        try:
            run(x)
        except Exception as error:  # of any kind, from the compiler or a backend
            raise ExportError(f"the network cannot be compiled: {short_reason(error)}") from error
    return partial(timed, run, x)


@contextmanager
def in_onnx(item: ProfileInput, device: torch.device) -> Iterator[PreparedRuntime]:
    """Yield an ONNX file, or the export of a network, in ONNX Runtime, with a note where it fell back to the CPU.

    The times include copies to and from the device.
    """
    with _session(item, CPU if device.type == "cpu" else _on(CUDA, device)) as (session, notes):
        fell_back = device.type != "cpu" and session.providers[0] == CPU[0]
        warning = f"{item.name}: ONNX Runtime fell back to the CPU, so these are not times of {device}"
        yield _running(item, session, (*notes, warning) if fell_back else notes)


@contextmanager
def in_tensorrt(item: ProfileInput, device: torch.device) -> Iterator[PreparedRuntime]:
    """Yield an ONNX file in ONNX Runtime's TensorRT provider; raise ExportError where it is not available."""
    if device.type == "cpu":
        raise ExportError("TensorRT runs on a GPU", "", f"use {option('device', 'cuda')}")
    with _session(item, _on(TENSORRT_PROVIDERS, device)) as (session, notes):
        if session.providers[0] != TENSORRT_PROVIDERS[0]:
            raise ExportError("ONNX Runtime has no TensorRT provider here", "", "install TensorRT's libraries")
        yield _running(item, session, notes)


@contextmanager
def _session(item: ProfileInput, providers: Any) -> Iterator[tuple[OnnxSession, tuple[str, ...]]]:
    with tempfile.TemporaryDirectory() as folder:
        path, notes = _file(item, Path(folder))
        limit = default_time_limit(path) if item.time_limit is None else item.time_limit
        with open_session(path, providers, torch.get_num_threads(), limit) as session:
            yield session, notes


def _file(item: ProfileInput, folder: Path) -> tuple[Path, tuple[str, ...]]:
    if isinstance(item.source, OnnxInput):
        return item.source.path, ()
    result = write_onnx(ExportRequest(network=item.source, targets={"fp32": folder / "network.onnx"}))
    dropped, grafts = result.prepared.dropped, result.prepared.grafts
    count = f"{len(dropped)} of {counted(len(grafts), 'graft')}"
    note = f"{item.name}: left out {count} in the ONNX file: exactly the identity"
    return result.files[0].path, (note,) if dropped else ()


def _on(providers: tuple[str, ...], device: torch.device) -> list[Any]:
    """Return the providers with the index of the device as an option."""
    return [name if name in CPU else (name, {"device_id": device.index or 0}) for name in providers]


def _running(item: ProfileInput, session: OnnxSession, notes: tuple[str, ...]) -> PreparedRuntime:
    def work(batch: int) -> Work:
        source = item.source
        if isinstance(source, OnnxInput):
            return partial(session.time, source.feeds(batch))
        return partial(session.time, as_feeds(INPUT, images(source, batch, torch.device("cpu"))))

    return PreparedRuntime(session.providers[0], notes, work)


def _of_torch(item: ProfileInput) -> LoadedNetwork:
    if isinstance(item.source, OnnxInput):
        raise ExportError("an ONNX file runs in ONNX Runtime only", "", f"use {option('runtime', 'onnx')}")
    return item.source


RUNTIMES = {"eager": in_eager, "compile": compiled, "onnx": in_onnx, "tensorrt": in_tensorrt}
