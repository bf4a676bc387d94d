"""Write a network as ONNX files in several precisions, and compare each with PyTorch before it replaces a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attn_surgeon.errors import ExportError, option
from attn_surgeon.export.benchmark import EvaluationData, FileBenchmark, benchmark_files, open_evaluation_data
from attn_surgeon.export.example_images import folder_pixels, normalise
from attn_surgeon.export.file_metadata import build_metadata
from attn_surgeon.export.formats import Format
from attn_surgeon.export.module import INPUT
from attn_surgeon.export.onnx.convert import WITH_TORCHSCRIPT, convert_to_onnx, default_opset
from attn_surgeon.export.onnx.precisions.bfloat16 import bfloat16_to_float, to_bfloat16
from attn_surgeon.export.onnx.precisions.half import to_half
from attn_surgeon.export.onnx.precisions.int8 import Quantisation, to_int8
from attn_surgeon.export.onnx.session import as_feeds, open_session
from attn_surgeon.export.parity import Array, Parity
from attn_surgeon.export.parity_check import allowed, check_parity, name_size, outputs_difference, require_parity
from attn_surgeon.export.prepared import PreparedNetwork, prepare
from attn_surgeon.export.result import ExportedFile, ExportResult
from attn_surgeon.export.settings import ExportRequest
from attn_surgeon.files import staged
from attn_surgeon.progress import StepProgress

# Relative to the largest output. That of int8 only detects gross errors; its accuracy is measured on data.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2, "int8": 0.5}
CALIBRATION_IMAGES = 128
PROTOBUF_LIMIT = 1_900_000_000  # bytes; the maximum size of a protobuf message is 2 GB
_FLOATS = {"fp16": to_half, "bf16": to_bfloat16}


@dataclass(frozen=True, kw_only=True)
class OnnxOptions:
    """The options of ONNX files.

    Args:
        opset: the version of the ONNX operator set; by default 20, or 22 in bfloat16.
        calibrate: a folder of images for int8 calibration.
        data: labelled images to measure accuracy on.
        split: the split of the data.
        limit: the maximum number of images.
        benchmark: measure precisions side by side.
        quantise_biases: quantise biases in int8, which TensorRT does not support.
        external_above: the size in bytes above which tensors are written to an external file.
    """

    opset: int | None = None
    calibrate: str | Path | None = None
    data: str | None = None
    split: str = "val"
    limit: int | None = None
    benchmark: bool = True
    quantise_biases: bool = True
    external_above: int = PROTOBUF_LIMIT

    @property
    def evaluation(self) -> EvaluationData | None:
        """The data to measure accuracy on."""
        return None if self.data is None else EvaluationData(self.data, self.split, self.limit)


def write_onnx(request: ExportRequest) -> ExportResult:
    """Write ONNX files, one for each precision among the targets.

    Raises:
        ParityError: the outputs of a file differ from the network's; nothing is written then.
        ExportError: the network cannot be exported in this way.
    """
    prepared = prepare(request.network, request.settings)
    if prepared.exported.objects:
        _require_single([*request.targets])
    options: OnnxOptions = request.options or OnnxOptions()
    opset = default_opset([*request.targets]) if options.opset is None else options.opset
    if options.evaluation is not None:
        open_evaluation_data(prepared, options.evaluation)  # raises for invalid data before the long steps
    request.progress("trace")
    model = convert_to_onnx(prepared.exported, prepared.example, prepared.axes, opset)
    model.metadata_props.update(build_metadata(prepared, request.artefact))
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        temporaries = {name: stack.enter_context(staged(target)) for name, target in request.targets.items()}
        paths = {"fp32": work / "fp32.onnx", **temporaries}
        save_model(model, paths["fp32"], options.external_above)
        parities = {"fp32": _check_single(prepared, paths["fp32"], opset, request.progress)}
        quantisation = None
        for precision in [name for name in paths if name != "fp32"]:
            request.progress(f"convert to {precision}")
            quantisation = _convert(prepared, options, precision, paths) or quantisation
            parities[precision] = (_check(prepared, precision, paths[precision]),)
        measured = _benchmark(prepared, options, paths, [*temporaries], request.progress)
        files = tuple(
            ExportedFile(
                request.targets[name],
                parities[name],
                {"precision": name, "opset": opset, "nodes": count_nodes(temporary)},
            )
            for name, temporary in temporaries.items()
        )
    remarks = [] if quantisation is None else [quantisation.describe()]
    if prepared.exported.objects:
        remarks.append(WITH_TORCHSCRIPT)
    return ExportResult(
        prepared=prepared, files=files, measured=measured, remarks=(*remarks, *_slower_remarks(measured))
    )


def _require_single(precisions: Sequence[str]) -> None:
    if lower := [name for name in precisions if name != "fp32"]:
        what = f"a network that selects boxes is exported in fp32 alone, not in {lower[0]}"
        raise ExportError(what, option(lower[0], True), "leave it out")


def _benchmark(
    prepared: PreparedNetwork,
    options: OnnxOptions,
    paths: Mapping[str, Path],
    precisions: list[str],
    progress: StepProgress,
) -> tuple[FileBenchmark, ...]:
    if not options.benchmark or (options.evaluation is None and precisions == ["fp32"]):
        return ()
    progress("measure")
    runnable = {name: path for name, path in paths.items() if name != "bf16"}
    return tuple(benchmark_files(prepared, runnable, options.evaluation))


def _slower_remarks(measured: tuple[FileBenchmark, ...]) -> list[str]:
    """Return a remark on the precisions that are slower than single precision by more than both spreads."""
    single = next((row.latency for row in measured if row.precision == "fp32"), None)
    slow = [
        row.precision
        for row in measured
        if single and row.latency.median - single.median > row.latency.spread + single.spread
    ]
    names = " and ".join(slow)
    return [f"{names} is slower than fp32 here: ONNX Runtime on this CPU, one image at a time"] if slow else []


def save_model(model: Any, path: Path, external_above: int = PROTOBUF_LIMIT) -> None:
    """Write an `onnx_ir.Model`; the tensors of a large one are written to `NAME.onnx.data`."""
    import onnx_ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    external = f"{path.name}.data" if size > external_above else None
    onnx_ir.save(model, path, external_data=external)


def count_nodes(path: Path) -> int:
    """Return the number of nodes of an ONNX file."""
    import onnx

    return len(onnx.load(str(path), load_external_data=False).graph.node)


def _convert(
    prepared: PreparedNetwork, options: OnnxOptions, precision: str, paths: Mapping[str, Path]
) -> Quantisation | None:
    if precision in _FLOATS:
        _FLOATS[precision](paths["fp32"], paths[precision])
        return None
    images = calibration_images(prepared, options.calibrate or "demo")
    classes = prepared.exported.classes or 0
    return to_int8(paths["fp32"], paths[precision], images, classes=classes, biases=options.quantise_biases)


def calibration_images(prepared: PreparedNetwork, source: str | Path) -> list[Array]:
    """Return calibration images in batches that the file accepts; raise DataError where there are none."""
    pixels, count = folder_pixels(source, prepared.network.preprocessing)
    size = next(prepared.sizes())
    images = pixels({**size, "batch": min(count, CALIBRATION_IMAGES)})
    inputs = images if prepared.settings.preprocess else normalise(images, prepared.network.preprocessing)
    batches = torch.split(inputs, size["batch"])
    return [np.ascontiguousarray(batch.numpy()) for batch in batches if len(batch) == size["batch"]]


def _check_single(prepared: PreparedNetwork, path: Path, opset: int, progress: StepProgress) -> tuple[Parity, ...]:
    progress("compare with PyTorch")
    parities = [_check(prepared, "fp32", path)]
    if prepared.untrained and not prepared.dropped:
        progress("compare with the original")
        parities.append(_check_original(prepared, path, opset))
    return tuple(parities)


def _check(prepared: PreparedNetwork, precision: str, path: Path) -> Parity:
    """Compare the outputs of a file in ONNX Runtime with PyTorch's."""
    with _runnable(path, precision) as file, open_session(file) as session:

        def compute(inputs: Tensor) -> list[Array]:
            return session.run(as_feeds(INPUT, inputs))

        explain = precision == "fp32"
        return check_parity(prepared, compute, TOLERANCES[precision], f"in {precision}", explain=explain)


@contextmanager
def _runnable(path: Path, precision: str) -> Iterator[Path]:
    """Yield a file that ONNX Runtime can run on a CPU: for bfloat16, a copy with the rounded weights in float."""
    if precision != "bf16":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        wide = Path(folder) / path.name
        bfloat16_to_float(path, wide)
        yield wide


def _check_original(prepared: PreparedNetwork, path: Path, opset: int) -> Parity:
    """Compare the file of a network whose grafts are all the identity with that of the network without grafts."""
    model = convert_to_onnx(prepared.without_grafts(), prepared.example, prepared.axes, opset)
    with tempfile.TemporaryDirectory() as folder:
        original_path = Path(folder) / "original.onnx"
        save_model(model, original_path)
        with open_session(path) as session, open_session(original_path) as original:
            feeds_by_size = {name_size(size): as_feeds(INPUT, prepared.inputs(size)) for size in prepared.sizes()}
            differences = tuple(
                outputs_difference(prepared, size, session.run(feeds), original.run(feeds))
                for size, feeds in feeds_by_size.items()
            )
    parity = Parity("the original's export", allowed(prepared, TOLERANCES["fp32"]), differences)
    return require_parity(prepared, parity, "in fp32", explain=False)


ONNX = Format(
    name="onnx",
    title="an ONNX file",
    suffixes=(".onnx",),
    write=write_onnx,
    options=OnnxOptions,
    precisions=("fp32", "fp16", "int8"),
    several=True,
)
