"""ONNX files that somebody wrote: what they hold, what they are fed, and where they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

from attn_surgeon.errors import ExportError, MemoryLimitError
from attn_surgeon.profiling.onnx_file import read_onnx
from attn_surgeon.profiling.profiled_network import ProfileInput
from attn_surgeon.profiling.runtimes import compiled, in_onnx, in_tensorrt

from .helpers import scaling

CUDA = torch.device("cuda")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")


def test_weights_are_parameters_and_shapes_are_not(tmp_path: Path) -> None:
    assert read_onnx(scaling(tmp_path / "x.onnx", ["n", 1, 4, 5])).parameters == 5


@pytest.mark.parametrize(
    ("shape", "fed"),
    [
        (["n", 3, "h", "w"], (2, 3, 6, 7)),
        (["n", "h", "w", 3], (2, 6, 7, 3)),
        ([2, 3, 6, 7], (2, 3, 6, 7)),
        (["n", 9], (2, 9)),
    ],
)
def test_open_axes_are_filled(tmp_path: Path, shape: list[int | str], fed: tuple[int, ...]) -> None:
    file = read_onnx(scaling(tmp_path / "x.onnx", shape, TensorProto.UINT8), (6, 7))
    values = file.feeds(2)["x"]
    assert values.shape == fed
    assert values.dtype == np.dtype("uint8")
    assert file.image == fed[1:]
    np.testing.assert_array_equal(file.feeds(2)["x"], values)


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"it takes 2×3×4×\?"):
        read_onnx(scaling(tmp_path / "x.onnx", [2, 3, 4, "w"]), (6, 7))


def test_the_size_of_an_exported_file_is_reported(tmp_path: Path) -> None:
    story = {"attn_surgeon.preprocessing": '{"size": [6, 7]}'}
    path = scaling(tmp_path / "x.onnx", ["n", 3, "h", "w"], story=story)
    assert read_onnx(path).image == (3, 6, 7)
    assert read_onnx(path, (8, 9)).image == (3, 8, 9)


def test_a_fixed_batch_is_no_other(tmp_path: Path) -> None:
    file = read_onnx(scaling(tmp_path / "x.onnx", [4, 3, 4, 5]))
    with pytest.raises(ExportError, match=r"its batch size is fixed at 4; x\.onnx; measure it with batch=4"):
        file.feeds(1)


def test_damage_is_reported(tmp_path: Path) -> None:
    path = Path(scaling(tmp_path / "whole.onnx", ["n", 3, 4, 5]))
    whole = path.read_bytes()
    for data in (b"", b"no model at all", whole[: len(whole) // 2], b"\x08\x0a" * 50):
        path.write_bytes(data)
        with pytest.raises(ExportError, match=r"not an ONNX file, or a damaged one: .*whole\.onnx"):
            read_onnx(str(path))
    with pytest.raises(ExportError, match=r"cannot be read: No such file.*did you mean whole\.onnx"):
        read_onnx(str(tmp_path / "whol.onnx"))


@no_gpu
@pytest.mark.filterwarnings("ignore")
def test_a_fall_back_to_the_cpu_is_reported(tmp_path: Path) -> None:
    entrant = ProfileInput("mine", read_onnx(scaling(tmp_path / "x.onnx", ["n", 1, 4, 5])))
    with in_onnx(entrant, CUDA) as running:
        assert running.on == "CPUExecutionProvider"
        assert running.notes == ("mine: ONNX Runtime fell back to the CPU, so these are not times of cuda",)
        assert 0 < running.work(3)() < 1
    with pytest.raises(ExportError, match="no TensorRT provider here"), in_tensorrt(entrant, CUDA):
        pass


def test_a_missing_compiler_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entrant = ProfileInput("mine", read_onnx(scaling(tmp_path / "x.onnx", ["n", 1, 4, 5])))
    with pytest.raises(ExportError, match="runs in ONNX Runtime only"), compiled(entrant, torch.device("cpu")):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(ExportError, match="needs a C\\+\\+ compiler, and none was found"),
        compiled(entrant, torch.device("cpu")),
    ):
        pass


@pytest.mark.parametrize(("shape", "batch"), [([1, 3, 10**9, 10**9], 1), (["n", 3, 4, 5], 10**18)])
def test_inputs_larger_than_memory_are_refused(tmp_path: Path, shape: list[int | str], batch: int) -> None:
    file = read_onnx(scaling(tmp_path / "x.onnx", shape))
    with pytest.raises(MemoryLimitError, match=r"its input needs .* GB of memory, and .* GB are free; x\.onnx"):
        file.feeds(batch)
