"""ONNX Runtime in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from attn_surgeon.errors import ExportError
from attn_surgeon.export.onnx import session as sessions
from attn_surgeon.export.onnx.session import open_session, without_places


def doubling(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_it_computes_and_takes_its_time(tmp_path: Path) -> None:
    with open_session(doubling(tmp_path / "x.onnx")) as session:
        x = np.arange(4, dtype=np.float32)
        np.testing.assert_array_equal(session.run({"x": x})[0], 2 * x)
        assert session.providers == ("CPUExecutionProvider",)
        assert 0 < session.time({"x": x}) < 1
        with pytest.raises(ExportError, match="rejects this file"):
            session.run({"wrong": x})
        np.testing.assert_array_equal(session.run({"x": x})[0], 2 * x)
    assert session.process.poll() is not None


def test_what_it_says_goes_without_places_in_its_own_code() -> None:
    answer = (
        "Fail: [ONNXRuntimeError] : 1 : FAIL : Load model from x.onnx failed:/onnxruntime_src/onnxruntime/core/graph/"
        "model.cc:181 onnxruntime::Model::Model(onnx::ModelProto&&, const logging::Logger&, const Options&) "
        "Unknown model file format version."
    )
    told = "Fail: [ONNXRuntimeError] : 1 : FAIL : Load model from x.onnx failed: Unknown model file format version."
    assert without_places(answer) == told


@pytest.mark.parametrize("data", [b"", b"no model at all", b"\x08\x0a" * 50])
def test_a_file_that_is_no_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    with pytest.raises(ExportError, match="rejects this file"), open_session(path):
        pass


def test_a_crash_takes_only_its_own_process_with_it(tmp_path: Path) -> None:
    with open_session(doubling(tmp_path / "x.onnx")) as session:
        session.process.kill()
        session.process.wait()
        with pytest.raises(ExportError, match="killed ONNX Runtime on this file"):
            session.run({"x": np.zeros(2, dtype=np.float32)})


def test_two_packages_that_overwrite_each_other_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no model at all")
    one_line = (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; keep one: pip uninstall"
    )
    monkeypatch.setattr(sessions, "_is_installed", lambda name: True)
    with pytest.raises(ExportError, match=one_line), open_session(path):
        pass
    monkeypatch.setattr(sessions, "_is_installed", lambda name: name == "onnxruntime-gpu")
    with pytest.raises(ExportError) as raised, open_session(path):
        pass
    assert "keep one" not in str(raised.value)


def test_a_package_that_is_damaged_is_told_apart_from_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no capi')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(ExportError) as raised, open_session(doubling(tmp_path / "x.onnx")):
        pass
    assert raised.value.what == "ONNX Runtime cannot be used: ImportError: no capi"
    assert raised.value.hint == "pip install onnxruntime, or onnxruntime-gpu"


def test_a_working_pair_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sessions._warn_of_conflict.cache_clear()
    monkeypatch.setattr(sessions, "_is_installed", lambda name: True)
    for _ in range(2):
        with open_session(doubling(tmp_path / "x.onnx")):
            pass
    sessions._warn_of_conflict.cache_clear()
    assert [record.getMessage().split(";")[1][:9] for record in caplog.records] == [" keep one"]
