"""Write a network as a `torch.export` program, optionally compiled with AOTInductor, and compare it with PyTorch."""

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
from attn_surgeon.export.dynamic_axes import Axis, axis_index
from attn_surgeon.export.failures import export_failure, short_reason
from attn_surgeon.export.file_metadata import build_metadata
from attn_surgeon.export.formats import Format
from attn_surgeon.export.parity import Array, Parity
from attn_surgeon.export.parity_check import check_parity
from attn_surgeon.export.prepared import PreparedNetwork, prepare
from attn_surgeon.export.quiet import silenced
from attn_surgeon.export.result import ExportedFile, ExportResult
from attn_surgeon.export.settings import ExportRequest
from attn_surgeon.files import staged
from attn_surgeon.surgery.running import tensors

PROGRAM_TOLERANCE = 1e-4  # relative to the largest output


@dataclass(frozen=True, kw_only=True)
class ProgramOptions:
    """The options of programs: `compiled` is whether they are compiled with AOTInductor."""

    compiled: bool = False


def write_program(request: ExportRequest) -> ExportResult:
    """Write a `.pt2` file.

    Raises:
        ParityError: its outputs differ from the network's; nothing is written then.
        ExportError: the network cannot be exported, or there is no C++ compiler to compile it.
    """
    options: ProgramOptions = request.options or ProgramOptions()
    if options.compiled:
        require_compiler()
    prepared = prepare(request.network, request.settings)
    metadata = build_metadata(prepared, request.artefact)
    (target,) = request.targets.values()
    request.progress("trace")
    program = trace_program(prepared)
    with staged(target) as temporary:
        request.progress("compile" if options.compiled else "write")
        run = (_compile if options.compiled else _save)(program, temporary, metadata)
        request.progress("compare with PyTorch")
        parity = _check(prepared, run, target.name)
    return ExportResult(prepared=prepared, files=(ExportedFile(target, (parity,), {"compiled": options.compiled}),))


def require_compiler(where: str = "") -> None:
    """Raise ExportError where there is no C++ compiler; `where` is the option that needs one."""
    if not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        raise ExportError("compiling needs a C++ compiler, and none was found", where, "install g++")


def trace_program(prepared: PreparedNetwork) -> Any:
    """Return the `ExportedProgram`, without stack traces, which contain paths of this machine.

    Raises ExportError where the network cannot be exported.
    """
    pixels = prepared.settings.preprocess
    dynamic = {axis_index(axis, pixels=pixels): _dimension(axis) for axis in prepared.axes}
    with silenced():
        try:
            program = torch.export.export(prepared.module, (prepared.example,), dynamic_shapes=(dynamic,), strict=False)
        except Exception as error:  # of any kind, from the exporter or the network's code
            raise export_failure(error, prepared.axes) from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def _dimension(axis: Axis) -> Any:
    # No minimum: torch.export rejects one above 1, with which the program would take 2 images but not 1.
    return Dim.DYNAMIC(max=axis.high) if axis.ranged else Dim.DYNAMIC


def _save(program: Any, path: Path, metadata: Mapping[str, str]) -> Callable[[Any], Any]:
    with silenced():
        torch.export.save(program, path, extra_files=dict(metadata))
        run: Callable[[Any], Any] = torch.export.load(path).module()
    return run


def _compile(program: Any, path: Path, metadata: Mapping[str, str]) -> Callable[[Any], Any]:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    with silenced():
        try:
            configs = {"aot_inductor.metadata": dict(metadata)}
            aoti_compile_and_package(program, package_path=str(path), inductor_configs=configs)
        except Exception as error:
            what = f"the network cannot be compiled: {short_reason(error)}"
            raise ExportError(what) from error
        _remove_sources(path)
        run: Callable[[Any], Any] = aoti_load_package(str(path))
    return run


def _remove_sources(package: Path) -> None:
    """Remove the C++ files from a package, which are not needed to run it and contain paths of this machine."""
    with ZipFile(package) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith(".cpp")}
    with ZipFile(package, "w") as archive:
        for name, content in members.items():
            archive.writestr(ZipInfo(name), content)  # without timestamps, so that equal programs are equal files


@torch.no_grad()
def _check(prepared: PreparedNetwork, run: Callable[[Any], Any], name: str) -> Parity:
    def compute(inputs: Tensor) -> list[Array]:
        return [tensor.numpy() for tensor in tensors(run(inputs))]

    return check_parity(prepared, compute, PROGRAM_TOLERANCE, name)


PROGRAM = Format(
    name="pt2", title="a torch.export program", suffixes=(".pt2",), write=write_program, options=ProgramOptions
)
