"""The runtimes that networks are timed in: PyTorch as it is, compiled, and ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.errors import ExportError
from attn_surgeon.export.job import Settings, prepare
from attn_surgeon.export.network import INPUT
from attn_surgeon.export.onnx.onnx_file import Wanted, write_onnx
from attn_surgeon.export.onnx.runtime import CPU, Session, as_feeds
from attn_surgeon.export.onnx.runtime import opened as opened_session
from attn_surgeon.export.onnx.to_onnx import reason
from attn_surgeon.export.program import require_compiler
from attn_surgeon.export.quiet import quiet
from attn_surgeon.measure.latency import timed
from attn_surgeon.profiling.entrant import Entrant, images
from attn_surgeon.profiling.onnx_file import OnnxFile
from attn_surgeon.surgery.isolation import mode

CUDA = ("CUDAExecutionProvider", *CPU)
TENSORRT = ("TensorrtExecutionProvider", *CUDA)
Work = Callable[[], float]


@dataclass(frozen=True)
class Running:
    """A network ready to be timed: what runs it, what there is to say of that, and the work for a batch."""

    on: str
    notes: tuple[str, ...]
    work: Callable[[int], Work]


@contextmanager
def in_eager(entrant: Entrant, device: torch.device) -> Iterator[Running]:
    """Run a network as PyTorch does."""
    loaded = _of_torch(entrant)
    with mode(loaded.model.to(device), training=False):
        yield Running(str(device), (), lambda n: partial(timed, loaded.model, images(loaded, n, device)))


@contextmanager
def compiled(entrant: Entrant, device: torch.device) -> Iterator[Running]:
    """Run a network through `torch.compile`; raise ExportError where no C++ compiler is found or it fails."""
    require_compiler("--runtime compile")
    loaded = _of_torch(entrant)
    try:
        with mode(loaded.model.to(device), training=False):
            yield Running(str(device), (), partial(_compile, loaded, device))
    finally:
        torch.compiler.reset()


def _compile(loaded: LoadedNetwork, device: torch.device, batch: int) -> Work:
    run, x = torch.compile(loaded.model, dynamic=False), images(loaded, batch, device)
    with quiet():
        try:
            run(x)
        except Exception as error:  # the compiler's own kinds, and those of the tools it calls
            raise ExportError(f"the network cannot be compiled: {reason(error)}") from error
    return partial(timed, run, x)


@contextmanager
def in_onnx(entrant: Entrant, device: torch.device) -> Iterator[Running]:
    """Run an ONNX file, made of the network where it is none, in ONNX Runtime, and say where that is not on the device.

    Its times have the copies to and from the device in them.
    """
    with _session(entrant, CPU if device.type == "cpu" else _on(CUDA, device)) as (session, notes):
        fell_back = device.type != "cpu" and session.providers[0] == CPU[0]
        warning = f"{entrant.name}: ONNX Runtime fell back to the CPU, so its times are none of {device}"
        yield _running(entrant, session, (*notes, warning) if fell_back else notes)


@contextmanager
def in_tensorrt(entrant: Entrant, device: torch.device) -> Iterator[Running]:
    """Run an ONNX file by ONNX Runtime's TensorRT provider; raise ExportError where it does not come up."""
    if device.type == "cpu":
        raise ExportError("TensorRT runs on a GPU", "", "say --device cuda")
    with _session(entrant, _on(TENSORRT, device)) as (session, notes):
        if session.providers[0] != TENSORRT[0]:
            raise ExportError("ONNX Runtime has no TensorRT provider here", "", "install TensorRT's libraries")
        yield _running(entrant, session, notes)


@contextmanager
def _session(entrant: Entrant, providers: Any) -> Iterator[tuple[Session, tuple[str, ...]]]:
    with tempfile.TemporaryDirectory() as folder:
        path, notes = _file(entrant, Path(folder))
        with opened_session(path, providers, torch.get_num_threads()) as session:
            yield session, notes


def _file(entrant: Entrant, folder: Path) -> tuple[Path, tuple[str, ...]]:
    if isinstance(entrant.given, OnnxFile):
        return entrant.given.path, ()
    job = prepare(entrant.given, Settings())
    (written,) = write_onnx(job, Wanted({"fp32": folder / "network.onnx"}), {}).files
    count = f"{len(job.dropped)} of {len(job.grafts)} grafts"
    note = f"{entrant.name}: {count} are exactly the identity and are not in the ONNX file"
    return written.path, (note,) if job.dropped else ()


def _on(providers: tuple[str, ...], device: torch.device) -> list[Any]:
    """Ask for the providers on the device's own number."""
    return [name if name in CPU else (name, {"device_id": device.index or 0}) for name in providers]


def _running(entrant: Entrant, session: Session, notes: tuple[str, ...]) -> Running:
    def work(batch: int) -> Work:
        given = entrant.given
        if isinstance(given, OnnxFile):
            return partial(session.time, given.feeds(batch))
        return partial(session.time, as_feeds(INPUT, images(given, batch, torch.device("cpu"))))

    return Running(session.providers[0], notes, work)


def _of_torch(entrant: Entrant) -> LoadedNetwork:
    if isinstance(entrant.given, OnnxFile):
        raise ExportError("an ONNX file runs in ONNX Runtime only", "", "say --runtime onnx")
    return entrant.given


RUNTIMES = {"eager": in_eager, "compile": compiled, "onnx": in_onnx, "tensorrt": in_tensorrt}
