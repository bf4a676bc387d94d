"""Our calls to TensorRT, against the recorded description of its API; no TensorRT was there."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_surgeon.errors import ExportError
from attn_surgeon.export.tensorrt.build import BuildOptions, build_engine, import_tensorrt, load_engine, run_engine
from attn_surgeon.export.tensorrt.shapes import Shapes

from .fake import make

SHAPES = Shapes((1, 3, 64, 64), (8, 3, 64, 64), (32, 3, 64, 96))
Calls = list[tuple[str, tuple[Any, ...]]]


def fake(**other: Callable[..., Any]) -> tuple[Any, Calls]:
    """Make a TensorRT whose calls succeed; `other` changes what some give, with __ for the dot."""
    calls: Calls = []
    answers: dict[str, Callable[..., Any]] = {}
    trt = make(answers, calls)
    answers |= {
        "Builder.create_network": lambda flags=0: trt.INetworkDefinition(),
        "Builder.create_builder_config": trt.IBuilderConfig,
        "Builder.create_optimization_profile": trt.IOptimizationProfile,
        "Builder.build_serialized_network": lambda network, config: b"engine",
        "IBuilderConfig.create_timing_cache": lambda data: trt.ITimingCache(),
        "IBuilderConfig.get_timing_cache": trt.ITimingCache,
        "IBuilderConfig.set_timing_cache": lambda cache, ignore: True,
        "ITimingCache.serialize": lambda: b"times",
        "OnnxParser.parse_from_file": lambda path: True,
        "OnnxParser.num_errors": lambda: 0,
        "Runtime.deserialize_cuda_engine": lambda data: trt.ICudaEngine(),
        "ICudaEngine.create_execution_context": trt.IExecutionContext,
        "ICudaEngine.num_io_tensors": lambda: 2,
        "ICudaEngine.get_tensor_name": lambda index: ("images", "logits")[index],
        "ICudaEngine.get_tensor_mode": lambda name: trt.TensorIOMode["INPUT" if name == "images" else "OUTPUT"],
        "ICudaEngine.get_tensor_dtype": lambda name: trt.DataType.FLOAT,
        "IExecutionContext.get_tensor_shape": lambda name: (2, 10),
        "IExecutionContext.execute_async_v3": lambda stream: True,
    }
    answers |= {name.replace("__", "."): value for name, value in other.items()}
    return trt, calls


def test_an_engine_is_built_strongly_typed_with_one_profile(tmp_path: Path) -> None:
    trt, calls = fake()
    assert build_engine(trt, tmp_path / "x.onnx", SHAPES, BuildOptions()) == b"engine"
    told = dict(calls)
    assert told["Builder.create_network"] == (1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED,)
    assert told["OnnxParser.parse_from_file"] == (str(tmp_path / "x.onnx"),)
    assert told["IOptimizationProfile.set_shape"] == ("images", (1, 3, 64, 64), (8, 3, 64, 64), (32, 3, 64, 96))
    names = [name for name, _ in calls]
    assert names.index("IBuilderConfig.add_optimization_profile") < names.index("Builder.build_serialized_network")
    assert not {"IBuilderConfig.set_flag", "IBuilderConfig.set_memory_pool_limit"} & set(names)


def test_pixels_have_their_channels_last(tmp_path: Path) -> None:
    trt, calls = fake()
    build_engine(trt, tmp_path / "x.onnx", SHAPES, BuildOptions(), pixels=True)
    assert dict(calls)["IOptimizationProfile.set_shape"][1:] == ((1, 64, 64, 3), (8, 64, 64, 3), (32, 64, 96, 3))


def test_every_option_reaches_its_call(tmp_path: Path) -> None:
    trt, calls = fake()
    cache = tmp_path / "times.bin"
    options = BuildOptions(1 << 30, cache, version_compatible=True, hardware_compatible=True)
    build_engine(trt, tmp_path / "x.onnx", SHAPES, options)
    told = dict(calls)
    assert told["IBuilderConfig.set_memory_pool_limit"] == (trt.MemoryPoolType.WORKSPACE, 1 << 30)
    assert told["IBuilderConfig.set_flag"] == (trt.BuilderFlag.VERSION_COMPATIBLE,)
    assert told["IBuilderConfig.hardware_compatibility_level"] == (trt.HardwareCompatibilityLevel.AMPERE_PLUS,)
    assert told["IBuilderConfig.create_timing_cache"] == (b"",)
    assert cache.read_bytes() == b"times"
    build_engine(trt, tmp_path / "x.onnx", SHAPES, options)
    assert dict(calls)["IBuilderConfig.create_timing_cache"] == (b"times",)


def test_the_parsers_message_is_reported(tmp_path: Path) -> None:
    trt, _ = fake(OnnxParser__parse_from_file=lambda path: False, OnnxParser__num_errors=lambda: 1)
    error = trt.ParserError()
    refusing, _ = fake(
        OnnxParser__parse_from_file=lambda path: False,
        OnnxParser__num_errors=lambda: 1,
        OnnxParser__get_error=lambda index: error,
    )
    type(error).desc = lambda self: "node 7 is odd"
    with pytest.raises(ExportError, match="parser rejects the file: node 7 is odd"):
        build_engine(refusing, tmp_path / "x.onnx", SHAPES, BuildOptions())
    failing, _ = fake(Builder__build_serialized_network=lambda network, config: None)
    with pytest.raises(ExportError, match="built no engine"):
        build_engine(failing, tmp_path / "x.onnx", SHAPES, BuildOptions())


def test_an_engine_runs_on_tensors_where_they_lie() -> None:
    trt, calls = fake()
    images = torch.zeros(2, 3, 64, 64)
    engine = load_engine(trt, b"engine")
    outputs = run_engine(trt, engine, engine.create_execution_context(), images)
    assert {name: (tuple(made.shape), made.dtype) for name, made in outputs.items()} == {
        "logits": ((2, 10), torch.float32)
    }
    assert ("IExecutionContext.set_input_shape", ("images", (2, 3, 64, 64))) in calls
    addresses = [arguments for name, arguments in calls if name == "IExecutionContext.set_tensor_address"]
    assert addresses == [("images", images.data_ptr()), ("logits", outputs["logits"].data_ptr())]
    silent, _ = fake(IExecutionContext__execute_async_v3=lambda stream: False)
    with pytest.raises(ExportError, match="does not run"):
        run_engine(silent, silent.ICudaEngine(), silent.IExecutionContext(), images)
    unreadable, _ = fake(Runtime__deserialize_cuda_engine=lambda data: None)
    with pytest.raises(ExportError, match="cannot read the engine"):
        load_engine(unreadable, b"engine")


def test_missing_parts_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("attn_surgeon.export.tensorrt.build.import_module", absent)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ExportError, match=r"not installed and there is no NVIDIA GPU.*pip install tensorrt"):
        import_tensorrt()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("attn_surgeon.export.tensorrt.build.import_module", lambda name: importlib)
    assert import_tensorrt() is importlib


@pytest.mark.parametrize(
    "wrong",
    [
        lambda trt: trt.Builder(trt.Logger(trt.Logger.WARNING)).create_netwrok(),
        lambda trt: trt.Builder(),
        lambda trt: trt.IOptimizationProfile().set_shape("images", (1,), (1,)),
        lambda trt: trt.IBuilderConfig().set_flag("FP16"),
        lambda trt: trt.BuilderFlag.FP16,
    ],
)
def test_the_stand_in_takes_no_call_that_the_real_one_refuses(wrong: Callable[[Any], Any]) -> None:
    with pytest.raises((AttributeError, TypeError)):
        wrong(fake()[0])
