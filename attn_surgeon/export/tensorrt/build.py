"""Build, load and run a TensorRT engine. Never run with TensorRT: see the package's docstring."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from attn_surgeon.errors import ExportError, option
from attn_surgeon.export.module import INPUT
from attn_surgeon.export.tensorrt.shapes import BatchShape, Shapes


@dataclass(frozen=True)
class BuildOptions:
    """The options of the builder; `workspace` is in bytes, 0 for all the memory of the GPU."""

    workspace: int = 0
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


def import_tensorrt() -> Any:
    """Return the module `tensorrt`; raise ExportError where it is not installed or there is no GPU."""
    import torch

    missing = []
    try:
        trt = import_module("tensorrt")
    except (ImportError, OSError, RuntimeError):
        missing.append("TensorRT is not installed")
    if not torch.cuda.is_available():
        missing.append("there is no NVIDIA GPU")
    if missing:
        hint = "on a machine with one: pip install tensorrt-cu13, or run trtexec on the file"
        raise ExportError(" and ".join(missing), "", hint)
    return trt


def build_engine(trt: Any, onnx: Path, shapes: Shapes, options: BuildOptions, *, pixels: bool = False) -> bytes:
    """Build a strongly typed engine, whose precisions are those of the ONNX file, and return it serialised.

    Args:
        trt: the module `tensorrt`.
        onnx: the file.
        shapes: the optimisation profile.
        options: the options of the builder.
        pixels: whether the file takes images (N, H, W, C).

    Raises:
        ExportError: TensorRT's parser rejects the file, or no engine can be built.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, logger, onnx)
    config = _config(trt, builder, options)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *(_ordered(shape, pixels) for shape in (shapes.low, shapes.typical, shapes.high)))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError("TensorRT built no engine", onnx.name, "its log on stderr says why")
    if options.timing_cache is not None:
        options.timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _ordered(shape: BatchShape, pixels: bool) -> BatchShape:
    n, c, h, w = shape
    return (n, h, w, c) if pixels else shape


def _parse(trt: Any, network: Any, logger: Any, onnx: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        errors = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        what = f"TensorRT's parser rejects the file: {errors[:300]}"
        raise ExportError(what, onnx.name, f"{option('lint_only', True)} only checks the file")


def _config(trt: Any, builder: Any, options: BuildOptions) -> Any:
    config = builder.create_builder_config()
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.timing_cache is not None:
        cached = b""
        with suppress(FileNotFoundError):
            cached = options.timing_cache.read_bytes()
        config.set_timing_cache(config.create_timing_cache(cached), False)
    return config


def load_engine(trt: Any, engine: bytes) -> Any:
    """Return a deserialised engine; raise ExportError where TensorRT cannot read it."""
    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise ExportError("TensorRT cannot read the engine that it built", "", "its log on stderr says why")
    return loaded


def run_engine(trt: Any, engine: Any, context: Any, images: Any) -> dict[str, Any]:
    """Return the outputs of an engine on images, by name; raise ExportError where it fails."""
    import torch

    context.set_input_shape(INPUT, tuple(images.shape))
    outputs = _outputs(trt, engine, context, images.device)
    for name, tensor in ({INPUT: images} | outputs).items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.current_stream(images.device) if images.is_cuda else None
    if not context.execute_async_v3(stream.cuda_stream if stream else 0):
        raise ExportError("the engine does not run", "", "its log on stderr says why")
    if stream is not None:
        stream.synchronize()
    return outputs


def _outputs(trt: Any, engine: Any, context: Any, device: Any) -> dict[str, Any]:
    import torch

    kinds = {trt.DataType.FLOAT: torch.float32, trt.DataType.HALF: torch.float16, trt.DataType.BF16: torch.bfloat16}
    kinds |= {trt.DataType.INT32: torch.int32, trt.DataType.INT64: torch.int64, trt.DataType.BOOL: torch.bool}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {
        name: torch.empty(
            tuple(context.get_tensor_shape(name)), dtype=kinds[engine.get_tensor_dtype(name)], device=device
        )
        for name in names
        if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
    }
