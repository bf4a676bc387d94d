"""ONNX files that somebody wrote: what they hold, what they are fed, and where they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from attn_surgeon.errors import ExportError
from attn_surgeon.profiling.entrant import Entrant
from attn_surgeon.profiling.onnx_file import read_onnx
from attn_surgeon.profiling.runtimes import compiled, in_onnx, in_tensorrt

CUDA = torch.device("cuda")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")


def scaling(path: Path, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> str:
    """Write a file that multiplies its input by 1 × 1 × 5 numbers and reshapes it to a row."""
    held = [
        numpy_helper.from_array(np.ones((1, 1, 5), np.float32), "scale"),
        numpy_helper.from_array(np.array([-1], np.int64), "row"),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "row"], ["y"]),
    ]
    ends = (
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    graph = helper.make_graph(nodes, "scaling", *ends, held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return str(path)


def test_weights_are_parameters_and_shapes_are_not(tmp_path: Path) -> None:
    assert read_onnx(scaling(tmp_path / "x.onnx", ["n", 1, 4, 5])).parameters == 5


@pytest.mark.parametrize(
    ("shape", "fed"),
    [
        (["n", 3, "h", "w"], (2, 3, 6, 7)),
        (["n", "h", "w", 3], (2, 6, 7, 3)),
        ([2, 3, 4, 5], (2, 3, 4, 5)),
        (["n", 9], (2, 9)),
    ],
)
def test_open_axes_are_filled(tmp_path: Path, shape: list[int | str], fed: tuple[int, ...]) -> None:
    file = read_onnx(scaling(tmp_path / "x.onnx", shape, TensorProto.UINT8), (6, 7))
    assert (file.feeds(2)["x"].shape, file.feeds(2)["x"].dtype, file.image) == (fed, np.uint8, fed[1:])
    np.testing.assert_array_equal(file.feeds(2)["x"], file.feeds(2)["x"])


def test_a_fixed_batch_is_no_other(tmp_path: Path) -> None:
    file = read_onnx(scaling(tmp_path / "x.onnx", [4, 3, 4, 5]))
    with pytest.raises(ExportError, match=r"its batch is fixed at 4; x\.onnx; measure it with --batch 4"):
        file.feeds(1)


def test_damage_is_told(tmp_path: Path) -> None:
    path = Path(scaling(tmp_path / "whole.onnx", ["n", 3, 4, 5]))
    whole = path.read_bytes()
    for data in (b"", b"no model at all", whole[: len(whole) // 2], b"\x08\x0a" * 50):
        path.write_bytes(data)
        with pytest.raises(ExportError, match=r"no ONNX file, or a damaged one: .*whole\.onnx"):
            read_onnx(str(path))
    with pytest.raises(ExportError, match=r"cannot be read: No such file.*did you mean whole\.onnx"):
        read_onnx(str(tmp_path / "whol.onnx"))


@no_gpu
@pytest.mark.filterwarnings("ignore")
def test_a_fall_back_to_the_cpu_is_told(tmp_path: Path) -> None:
    entrant = Entrant("mine", read_onnx(scaling(tmp_path / "x.onnx", ["n", 1, 4, 5])))
    with in_onnx(entrant, CUDA) as running:
        assert running.on == "CPUExecutionProvider"
        assert running.notes == ("mine: ONNX Runtime fell back to the CPU, so its times are none of cuda",)
        assert 0 < running.work(3)() < 1
    with pytest.raises(ExportError, match="no TensorRT provider here"), in_tensorrt(entrant, CUDA):
        pass


def test_no_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entrant = Entrant("mine", read_onnx(scaling(tmp_path / "x.onnx", ["n", 1, 4, 5])))
    with pytest.raises(ExportError, match="runs in ONNX Runtime only"), compiled(entrant, torch.device("cpu")):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="no C\\+\\+ compiler is there"), compiled(entrant, torch.device("cpu")):
        pass
