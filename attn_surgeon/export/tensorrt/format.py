"""Write an ONNX file for TensorRT, check it, and build an engine from it. Never run: see the package's docstring."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.errors import ExportError, option
from attn_surgeon.export.dynamic_axes import NAMES
from attn_surgeon.export.formats import Format, ending
from attn_surgeon.export.onnx.format import TOLERANCES, OnnxOptions, write_onnx
from attn_surgeon.export.parity import Array
from attn_surgeon.export.parity_check import check_parity
from attn_surgeon.export.prepared import PreparedNetwork
from attn_surgeon.export.result import ExportedFile, ExportResult
from attn_surgeon.export.settings import ExportRequest
from attn_surgeon.export.tensorrt.build import BuildOptions, build_engine, import_tensorrt, load_engine, run_engine
from attn_surgeon.export.tensorrt.lint import lint, operator_table
from attn_surgeon.export.tensorrt.shapes import Shapes, read_shapes, sides
from attn_surgeon.files import staged
from attn_surgeon.measure.latency import Latency, summarise

ROUNDS = 20
ENGINE = "engine"  # the key of the engine among the targets; the other target is the ONNX file
# TF32, which is enabled by default, rounds the inputs of convolutions to a mantissa of ten bits.
ENGINE_TOLERANCES = {**TOLERANCES, "fp32": 5e-3}


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The options of engines.

    Args:
        opset, calibrate: as for ONNX files.
        shapes: the smallest, typical and largest input shape; by default, one image of the network's input size.
        lint_only: only write the ONNX file and check it against the operator table.
        workspace: the memory limit of the builder in gigabytes, 0 for all memory.
        timing_cache: a file for the timing cache of the builder.
        version_compatible: build an engine for later versions of TensorRT too.
        hardware_compatible: build an engine for all GPUs from Ampere on.
    """

    opset: int | None = None
    calibrate: str | Path | None = None
    shapes: str | None = None
    lint_only: bool = False
    workspace: float = 0
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False

    @property
    def build(self) -> BuildOptions:
        """The options of the builder."""
        workspace = int(self.workspace * 2**30)
        return BuildOptions(workspace, self.timing_cache, self.version_compatible, self.hardware_compatible)


def write_engine(request: ExportRequest) -> ExportResult:
    """Write the ONNX file for an engine, check it, and build the engine.

    Where the file has unsupported nodes, or TensorRT or a GPU is missing, the result has only the ONNX file, and
    `passed` or `error` says why.

    Raises:
        ParityError: the outputs of the ONNX file or the engine differ from the network's.
        ExportError: the network cannot be exported, or no engine can be built.
    """
    options: EngineOptions = request.options or EngineOptions()
    shapes = _shapes(request.network, options.shapes)
    (precision, onnx_path), *_ = request.targets.items()
    onnx = OnnxOptions(opset=options.opset, calibrate=options.calibrate, benchmark=False, quantise_biases=False)
    settings = replace(request.settings, axes=shapes.axes)
    result = _linted(write_onnx(replace(request, targets={precision: onnx_path}, settings=settings, options=onnx)))
    if options.lint_only or not result.passed:
        return result
    try:
        trt = import_tensorrt()
    except ExportError as error:
        return replace(result, error=error)
    request.progress("build the engine")
    plan = build_engine(trt, onnx_path, shapes, options.build, pixels=settings.preprocess)
    request.progress("compare with PyTorch")
    file = _checked(trt, result.prepared, plan, request.targets[ENGINE], shapes, precision)
    return replace(result, files=(*result.files, file), details={**result.details, "engine": dict(file.to_dict())})


def _linted(result: ExportResult) -> ExportResult:
    (file,) = result.files
    findings, version = lint(file.path), operator_table()["tensorrt"]
    remarks = [f"{finding.node} ({finding.operator}): {finding.what}" for finding in findings]
    count = f"{len(findings)} unsupported nodes" if findings else "no unsupported nodes"
    remarks.append(f"TensorRT {version}'s operator table: {count}")
    details = {
        "parity": [parity.to_dict() for parity in file.parities],
        "lint": {"tensorrt": version, "findings": [asdict(finding) for finding in findings]},
    }
    return replace(result, remarks=(*result.remarks, *remarks), details=details, passed=not findings)


def _shapes(network: LoadedNetwork, text: str | None) -> Shapes:
    """Return the optimisation profile; by default, one image of the network's input size."""
    preprocessing = network.preprocessing
    input_size = preprocessing.size
    default = f"1x{preprocessing.channels}x{input_size[0]}x{input_size[1]}"
    shapes = read_shapes(text or default, preprocessing.channels)
    sizes = {shapes.low[2:], shapes.typical[2:], shapes.high[2:]}
    if len(sizes) == 1 and sizes != {input_size}:
        height, width = sizes.pop()
        what = f"the network takes images of {input_size[0]}x{input_size[1]}"
        raise ExportError(what, option("shapes"), f"add {option('size', f'{height}x{width}')}")
    return shapes


def _checked(
    trt: Any, prepared: PreparedNetwork, plan: bytes, target: Path, shapes: Shapes, precision: str
) -> ExportedFile:
    """Write an engine after comparing its outputs with PyTorch's; raise ParityError where they differ."""
    engine = load_engine(trt, plan)
    context = engine.create_execution_context()

    def compute(images: torch.Tensor) -> list[Array]:
        outputs = run_engine(trt, engine, context, images.cuda())
        return [outputs[name].float().cpu().numpy() for name in prepared.exported.outputs]

    parity = check_parity(prepared, compute, ENGINE_TOLERANCES[precision], target.name, explain=precision == "fp32")
    images = prepared.inputs(dict(zip(NAMES, sides(shapes.typical), strict=True))).cuda()
    latency = _latency(lambda: run_engine(trt, engine, context, images))
    with staged(target) as temporary:
        temporary.write_bytes(plan)
    facts = {"precision": precision, "seconds": latency.median, "quartiles": latency.quartiles}
    return ExportedFile(target, (parity,), facts)


def _latency(run: Callable[[], object]) -> Latency:
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return summarise(seconds)


def _names(stem: str, precisions: Sequence[str], options: EngineOptions) -> Mapping[str, str]:
    """Return the names of the ONNX file and, unless `lint_only`, of the engine."""
    (precision,) = precisions
    onnx = {precision: stem + ending(precision, ".onnx")}
    return onnx if options.lint_only else {**onnx, ENGINE: f"{stem}.engine"}


TENSORRT = Format(
    name="tensorrt",
    title="a TensorRT engine",
    suffixes=(".engine", ".onnx"),
    write=write_engine,
    options=EngineOptions,
    precisions=("fp32", "fp16", "bf16", "int8"),
    names=_names,
)
