"""Every task of ultralytics, RT-DETR, several data sets and the example keep grafts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from ..examples.example_files import example
from .yolos import CLASSES, SETTINGS, SITES, grafted, integration, places, plain_yolo, started, write_data, write_yaml

pytest.importorskip("ultralytics")
pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of torch's older exporter, which ultralytics calls
def test_the_example_compares_with_a_control_and_exports(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sites = ("model.7", "model.4")
    settings = SETTINGS | {"epochs": 1}
    result = example("compare_ultralytics").main(
        data, "out", model=write_yaml(tmp_path), block="se", after=sites, seeds=1, **settings
    )
    assert list(result.metrics) == ["mAP50-95", "mAP50"]
    assert [item.place for item in result.grafts] == ["after model.4", "after model.7"]
    assert all(item.changed for item in result.grafts)
    assert places(plain_yolo(tmp_path / "out/seed-0-grafts/run/weights/best.pt").model) == [
        "after model.4",
        "after model.7",
    ]
    assert places(plain_yolo(tmp_path / "out/seed-0-control/run/weights/best.pt").model) == []
    assert (tmp_path / "out/seed-0-grafts/run/weights/best.onnx").exists()


def test_the_example_keeps_its_folder_and_returns_the_comparison_when_the_export_fails(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relative folder would be put elsewhere by ultralytics."""
    monkeypatch.chdir(tmp_path)
    script, folders = example("compare_ultralytics"), []

    def compare(network: Any, **loop: Any) -> str:
        loop["train"](network, 0, loop["out"] / "seed-0-grafts")
        loop["evaluate"](network)
        return "the comparison"

    def validated(_: Any, project: str, **__: Any) -> Any:
        folders.append(project)
        return SimpleNamespace(box=SimpleNamespace(map=0.5, map50=0.5))

    def export(_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'onnx'")

    monkeypatch.setattr(script.attn_surgeon, "compare", compare)
    monkeypatch.setattr(script.YOLO, "train", lambda _, project, **__: folders.append(project))
    monkeypatch.setattr(script.YOLO, "val", validated)
    monkeypatch.setattr(script.YOLO, "export", export)
    monkeypatch.setattr(script.YOLO, "_load", lambda *_, **__: None)
    model = write_yaml(tmp_path)
    assert script.main(data, "out", model=model, block="se", after=("model.4",), imgsz=64) == "the comparison"
    assert folders == [str(tmp_path / "out" / "seed-0-grafts"), str(tmp_path / "out")]
    printed = capsys.readouterr().out
    assert f"the comparison is in {tmp_path / 'out'}, but" in printed
    assert "was not exported: No module named 'onnx'" in printed


BOX, CORNERS = "0.4 0.4 0.4 0.4", "0.2 0.2 0.6 0.2 0.6 0.6 0.2 0.6"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "label", "more"),
    [
        ("Segment, [nc, 8, 16]", CORNERS, ""),
        ("Pose, [nc, [2, 3]]", f"{BOX} 0.3 0.3 2 0.5 0.5 2", "kpt_shape: [2, 3]\n"),
        ("OBB, [nc, 1]", CORNERS, ""),
    ],
)
def test_other_tasks_keep_grafts(tmp_path: Path, head: str, label: str, more: str) -> None:
    data = write_data(tmp_path / "data", label=label, more=more)
    path = write_yaml(tmp_path, head)
    path.write_text(more + path.read_text())
    yolo = integration().YOLO(path).insert("se", after=SITES, imgsz=64)
    yolo.train(data=str(data), epochs=1, project=str(tmp_path), name="run", **SETTINGS)
    assert yolo.task == head.partition(",")[0].lower()
    assert places(plain_yolo(tmp_path / "run/weights/best.pt").model) == [f"after {site}" for site in SITES]


@pytest.mark.slow
def test_classification_keeps_grafts(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in CLASSES:
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for index in range(2):
                Image.new("RGB", (64, 64), name).save(tmp_path / "data" / part / name / f"{index}.png")
    path = write_yaml(tmp_path, "Classify, [nc]")
    path.write_text(path.read_text().replace("[[7, 4]", "[-1"))
    yolo = integration().YOLO(path).insert("se", after=SITES, imgsz=64)
    for round_ in ("first", "second"):
        yolo.train(data=str(tmp_path / "data"), epochs=1, project=str(tmp_path), name=round_, **SETTINGS)
        assert places(yolo.model) == [f"after {site}" for site in SITES]


@pytest.mark.slow
def test_several_data_sets_are_trained_with_the_grafts(tmp_path: Path, data: Path) -> None:
    yolo = grafted(tmp_path)
    yolo.train(data=[str(data), str(data)], epochs=1, project=str(tmp_path), **SETTINGS)
    folders = [run.best for run in yolo.trainer.trainers]
    assert len(folders) == 2
    assert all(places(plain_yolo(path).model) == [f"after {site}" for site in SITES] for path in folders)


@pytest.mark.slow
def test_rtdetr_keeps_grafts(tmp_path: Path, data: Path) -> None:
    from ultralytics import RTDETR

    yolo = integration().RTDETR("rtdetr-l.yaml").insert("se", after="model.4", imgsz=64)
    assert places(started(yolo, data, project=str(tmp_path)).model) == ["after model.4"]
    yolo.save(tmp_path / "rtdetr.pt")
    opened = integration().YOLO(tmp_path / "rtdetr.pt")  # becomes a RTDETR, as ultralytics' YOLO does
    assert isinstance(opened, RTDETR)
    assert opened.insert("se", after="model.5", imgsz=64) is opened


@pytest.mark.slow
@pytest.mark.parametrize("loaded", [False, True])
def test_the_processes_of_distributed_training_have_the_grafts(tmp_path: Path, data: Path, loaded: bool) -> None:
    """Read what ultralytics writes for the processes, and set one up; several GPUs were never used."""
    pytest.importorskip("cloudpickle")
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

    trainers: list[Any] = []
    yolo = grafted(tmp_path)
    if loaded:
        yolo.save(tmp_path / "grafted.pt")
        yolo = integration().YOLO(tmp_path / "grafted.pt")
    yolo.add_callback("on_pretrain_routine_start", trainers.append)
    started(yolo, data, project=str(tmp_path))
    (trainer,) = trainers
    trainer.model = trainer.model if loaded else str(write_yaml(tmp_path))
    trainer.callbacks = {}
    file = generate_ddp_file(trainer)
    code = Path(file).read_text().replace("trainer.train()", CHECK_WORKER)
    Path(file).write_text(code)
    try:
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=True)
    finally:
        ddp_cleanup(trainer, file)
    assert done.stdout.strip().splitlines()[-1] == f"{len(SITES)} grafts"


CHECK_WORKER = """trainer.setup_model()
    import attn_surgeon
    print(len(attn_surgeon.list_grafts(trainer.model)), "grafts")
"""
