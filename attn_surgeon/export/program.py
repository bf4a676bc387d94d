"""Write a network as a `torch.export` program, or compiled by AOTInductor, that computes what the network computes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import torch
from torch import Tensor
from torch.export import Dim

from attn_surgeon.errors import ExportError
from attn_surgeon.export.axes import Axis
from attn_surgeon.export.job import Job
from attn_surgeon.export.onnx.onnx_file import TOLERANCES
from attn_surgeon.export.onnx.to_onnx import place_of, reason, refusal
from attn_surgeon.export.parity import Array, Parity
from attn_surgeon.export.quiet import quiet
from attn_surgeon.files import staged
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.running import tensors


@dataclass(frozen=True)
class WrittenProgram:
    """A program that was written, and how it compares."""

    path: Path
    parity: Parity


def write_program(
    job: Job, target: Path, story: Mapping[str, str], *, compiled: bool = False, progress: StepProgress = no_steps
) -> WrittenProgram:
    """Write a `.pt2` file; raise ParityError, and leave nothing, where it computes something else.

    `compiled` makes machine code of it by AOTInductor, and raises ExportError where there is no C++ compiler.
    """
    if compiled:
        require_compiler("--compile")
    progress("trace")
    program = trace(job)
    with staged(target) as temporary:
        progress("compile" if compiled else "write")
        run = (_compile if compiled else _save)(program, temporary, story)
        progress("compare with PyTorch")
        parity = _check(job, run, target.name)
    return WrittenProgram(target, parity)


def require_compiler(option: str) -> None:
    """Raise ExportError, which names the option that wants it, where no C++ compiler is found."""
    if not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        raise ExportError("no C++ compiler is there", option, f"install g++, or leave {option} out")


def trace(job: Job) -> Any:
    """Export as an `ExportedProgram` without a note on where the code lies; raise ExportError where it cannot be."""
    places = {place_of(axis, job.network): _dimension(axis) for axis in job.axes}
    with quiet():
        try:
            program = torch.export.export(job.network.module, (job.example,), dynamic_shapes=(places,), strict=False)
        except Exception as error:  # the exporter's own kinds, and whatever the network's code raises
            raise refusal(error, job.axes) from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def _dimension(axis: Axis) -> Any:
    # the lowest batch is 1 in every program: none holds for 2 images but not for 1
    return Dim.DYNAMIC(max=axis.high) if axis.ranged else Dim.DYNAMIC


def _save(program: Any, path: Path, story: Mapping[str, str]) -> Callable[[Any], Any]:
    with quiet():
        torch.export.save(program, path, extra_files=dict(story))
        run: Callable[[Any], Any] = torch.export.load(path).module()
    return run


def _compile(program: Any, path: Path, story: Mapping[str, str]) -> Callable[[Any], Any]:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    with quiet():
        try:
            told = {"aot_inductor.metadata": dict(story)}
            aoti_compile_and_package(program, package_path=str(path), inductor_configs=told)
        except Exception as error:
            raise ExportError(f"the network cannot be compiled: {reason(error)}", "--compile") from error
        _leave_out_sources(path)
        run: Callable[[Any], Any] = aoti_load_package(str(path))
    return run


def _leave_out_sources(package: Path) -> None:
    """Take the C++ files out of a package: what runs is compiled without them, and they name the compiler's folders."""
    with ZipFile(package) as read:
        kept = {name: read.read(name) for name in read.namelist() if not name.endswith(".cpp")}
    with ZipFile(package, "w") as written:
        for name, content in kept.items():
            written.writestr(ZipInfo(name), content)  # with no time, so that equal programs are equal files


@torch.no_grad()
def _check(job: Job, run: Callable[[Any], Any], name: str) -> Parity:
    def compute(inputs: Tensor) -> list[Array]:
        return [tensor.numpy() for tensor in tensors(run(inputs))]

    return job.check(compute, TOLERANCES["fp32"], name)
