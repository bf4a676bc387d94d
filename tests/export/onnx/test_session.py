"""ONNX Runtime in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from attn_surgeon.errors import ExportError
from attn_surgeon.export.onnx import session as sessions
from attn_surgeon.export.onnx.session import open_session, quantise, without_places

REPO = str(Path(__file__).parents[3])


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
    assert session.worker.process.poll() is not None


def test_messages_contain_no_locations_in_the_code_of_onnxruntime() -> None:
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
        session.worker.process.kill()
        session.worker.process.wait()
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


def test_a_damaged_package_is_distinguished_from_a_damaged_file(
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


def endless(path: Path) -> Path:
    """Write a graph of a few hundred bytes that loops 2^62 times."""
    empty = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y", "xi", "xo")}
    truth = {name: helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("ci", "co")}
    body = helper.make_graph(
        [helper.make_node("Identity", ["ci"], ["co"]), helper.make_node("Identity", ["xi"], ["xo"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), truth["ci"], empty["xi"]],
        [truth["co"], empty["xo"]],
    )
    turns = helper.make_tensor("n", TensorProto.INT64, [], [2**62])
    again = helper.make_tensor("c", TensorProto.BOOL, [], [1])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "c", "x"], ["y"], body=body)], "g", [x], [empty["y"]], [turns, again]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_graph_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    x = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    with open_session(endless(tmp_path / "x.onnx"), time_limit=3) as session:
        for _ in range(2):
            with pytest.raises(ExportError, match=r"stopped after 3 s; x\.onnx; allow more with time_limit=SECONDS"):
                session.time(x)
        assert session.worker.process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="limits and processes are read as on Linux")
def test_the_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom attn_surgeon.export.onnx.session import open_session\n"
        "with open_session(Path(sys.argv[1])) as session:\n"
        "    print(session.worker.process.pid, flush=True)\n"
        "    session.time({'x': np.zeros((1, 3, 8, 8), np.float32)})\n"
    )
    command = [sys.executable, "-c", code, str(endless(tmp_path / "x.onnx"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": REPO}) as running:
        assert running.stdout is not None
        worker = Path("/proc", running.stdout.readline().decode().strip())
        assert worker.exists()
        running.kill()
    end = time.monotonic() + 20
    while worker.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not worker.exists()


@pytest.mark.slow
def test_calibration_for_int8_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    feeds = [{"x": np.zeros((1, 3, 8, 8), np.float32)}]
    source, target = endless(tmp_path / "x.onnx"), tmp_path / "y.onnx"
    with pytest.raises(ExportError, match=r"stopped after 5 s; x\.onnx"):
        quantise(source, target, feeds, time_limit=5)
    assert not target.exists()
    source.write_bytes(b"no model at all")
    with pytest.raises(ExportError, match="cannot be quantised to integers"):
        quantise(source, target, feeds)
