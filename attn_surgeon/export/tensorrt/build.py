"""Build a TensorRT engine from an ONNX file. Never run on TensorRT; checked against its API's description."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from attn_surgeon.errors import ExportError
from attn_surgeon.export.network import INPUT
from attn_surgeon.export.tensorrt.shapes import Shape, Shapes


@dataclass(frozen=True)
class Options:
    """How an engine is built; `workspace` is in bytes, 0 for as much as there is."""

    workspace: int = 0
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


def import_tensorrt() -> Any:
    """Import TensorRT; raise ExportError with the way to get it where it or a GPU is missing."""
    import torch

    missing = []
    try:
        trt = import_module("tensorrt")
    except (ImportError, OSError, RuntimeError):
        missing.append("TensorRT is not installed")
    if not torch.cuda.is_available():
        missing.append("no NVIDIA GPU is there")
    if missing:
        hint = "on a machine with one: pip install tensorrt-cu13, or run trtexec on the file"
        raise ExportError(" and ".join(missing), "--tensorrt", hint)
    return trt


def build(trt: Any, onnx: Path, shapes: Shapes, options: Options, *, pixels: bool = False) -> bytes:
    """Build an engine whose precisions are the ONNX file's own types, and give it as bytes.

    `trt` is the module. Raises ExportError with the parser's own words where it refuses the file.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, logger, onnx)
    config = _config(trt, builder, options)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *(_ordered(shape, pixels) for shape in (shapes.low, shapes.usual, shapes.high)))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError("TensorRT built no engine", onnx.name, "its log on stderr tells why")
    if options.timing_cache is not None:
        options.timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _ordered(shape: Shape, pixels: bool) -> Shape:
    n, c, h, w = shape
    return (n, h, w, c) if pixels else shape


def _parse(trt: Any, network: Any, logger: Any, onnx: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        said = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise ExportError(f"TensorRT's parser refuses the file: {said[:300]}", onnx.name, "see --lint-only")


def _config(trt: Any, builder: Any, options: Options) -> Any:
    config = builder.create_builder_config()
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.timing_cache is not None:
        known = b""
        with suppress(FileNotFoundError):
            known = options.timing_cache.read_bytes()
        config.set_timing_cache(config.create_timing_cache(known), False)
    return config


def load(trt: Any, engine: bytes) -> Any:
    """Load an engine for running; raise ExportError where TensorRT cannot read it."""
    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise ExportError("TensorRT cannot read the engine that it built", "--tensorrt", "its log on stderr tells why")
    return loaded


def run(trt: Any, engine: Any, context: Any, images: Any) -> dict[str, Any]:
    """Run a loaded engine in a context on a tensor, and give its outputs by name; raise ExportError where it fails."""
    import torch

    context.set_input_shape(INPUT, tuple(images.shape))
    outputs = _outputs(trt, engine, context, images.device)
    for name, tensor in ({INPUT: images} | outputs).items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.current_stream(images.device) if images.is_cuda else None
    if not context.execute_async_v3(stream.cuda_stream if stream else 0):
        raise ExportError("the engine does not run", "--tensorrt", "its log on stderr tells why")
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
