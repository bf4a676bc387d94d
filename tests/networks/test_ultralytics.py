"""Networks of ultralytics: from YAML without network access, and from checkpoints, which need trust."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_surgeon import insert, list_grafts, load, save
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.errors import ArtefactError, SourceError, WeightsError
from attn_surgeon.networks import SourceSpec, parse_source
from attn_surgeon.networks.preprocessing import Preprocessing

from ..integrations.yolos import YAML, write_yaml
from .helpers import refused

pytest.importorskip("ultralytics")
pytestmark = pytest.mark.outside


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checkpoint(path: Path) -> Any:
    """Save a network as ultralytics' trainer does, and return it."""
    network: Any = open_network(f"ultralytics/{write_yaml(path.parent).name}").model
    network.names = {0: "red", 1: "green", 2: "blue"}
    torch.save({"model": network, "train_args": {"task": "detect", "imgsz": 64}}, path)
    return network


def test_names_are_parsed_without_importing_ultralytics() -> None:
    assert parse_source("ultralytics/yolo11n.yaml") == SourceSpec("ultralytics", "yolo11n.yaml")
    assert parse_source("ultralytics/runs/best.pt") == SourceSpec("ultralytics-pt", "runs/best.pt")
    with pytest.raises(SourceError, match=r"write ultralytics/yolo11n\.yaml, or ultralytics/FILE\.pt"):
        parse_source("ultralytics/yolo11n")


def test_a_yaml_of_the_package_is_built_in_its_scale() -> None:
    opened = open_network("ultralytics/yolo11n.yaml")
    assert sum(parameter.numel() for parameter in opened.model.parameters()) == 2_624_080
    assert opened.preprocessing == Preprocessing((0.0,) * 3, (1.0,) * 3, (640, 640))
    assert "random" in opened.notes[0]
    assert not opened.model.training


@pytest.mark.parametrize(
    ("head", "task", "side"), [("Segment, [nc, 8, 16]", "segment", 640), ("Classify, [nc]", "classify", 224)]
)
def test_the_yaml_names_the_task(folder: Path, head: str, task: str, side: int) -> None:
    text = YAML.replace("{head}", head)
    Path("mine.yaml").write_text(text.replace("[[7, 4]", "[-1") if task == "classify" else text)
    opened: Any = open_network("ultralytics/mine.yaml", args={"nc": 5})
    assert opened.model.task == opened.model.args["task"] == task
    assert opened.preprocessing.size == (side, side)
    assert opened.model.yaml["nc"] == 5


def test_an_artefact_and_a_patch_of_a_yaml_load_back(folder: Path) -> None:
    opened = open_network(f"ultralytics/{write_yaml(folder).name}", args={"nc": 5})
    image = torch.rand(1, 3, 64, 64)
    model = insert(opened.model, "se", after="model.4", example=image, init="paper")
    for patch in (False, True):
        save(model, "m.safetensors", patch=patch)
        assert torch.equal(load("m.safetensors")(image)[0], model(image)[0])


def test_an_artefact_and_a_patch_of_a_checkpoint_load_back_where_it_is_trusted(folder: Path) -> None:
    network = checkpoint(folder / "best.pt")
    image = torch.rand(1, 3, 64, 64)
    opened = open_network("ultralytics/best.pt", trust=True)
    assert torch.equal(opened.model(image)[0], network(image)[0])
    assert opened.provenance.class_names == ("red", "green", "blue")
    assert opened.preprocessing.size == (64, 64)
    model = insert(opened.model, "se", after="model.4", example=image, init="paper")
    for patch in (False, True):
        save(model, "m.safetensors", patch=patch)
        with pytest.raises(ArtefactError, match="only the file names"):
            load("m.safetensors")
        with pytest.raises(SourceError, match="the file is a pickle"):
            load("m.safetensors", source="ultralytics/best.pt")
        assert torch.equal(load("m.safetensors", trust=True)(image)[0], model(image)[0])


def test_a_checkpoint_with_grafts_is_opened_with_them(folder: Path) -> None:
    network = checkpoint(folder / "best.pt")
    image = torch.rand(1, 3, 64, 64)
    network = insert(network, "se", after="model.4", example=image, init="paper")
    torch.save({"model": network}, "best.pt")
    opened = open_network("ultralytics/best.pt", trust=True).model
    assert torch.equal(opened(image)[0], network(image)[0])
    save(insert(opened, "eca", after="model.2", example=image, init="paper"), "m.safetensors")
    assert [graft.place for graft in list_grafts(load("m.safetensors", trust=True))] == [
        "after model.2",
        "after model.4",
    ]


class Payload:
    """Something that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_a_pickle_is_not_opened_without_trust_and_its_code_is_listed(folder: Path) -> None:
    torch.save({"model": Payload()}, "best.pt")
    with pytest.raises(SourceError, match=r"names: posix\.mkdir.*trust") as refused:
        open_network("ultralytics/best.pt")
    assert "not opened" in str(refused.value)
    assert not Path("ran").exists()


def test_a_missing_checkpoint_is_not_downloaded() -> None:
    with pytest.raises(WeightsError, match=r"not downloaded.*YOLO\('yolo11n\.pt'\).*ultralytics/yolo11n\.yaml"):
        open_network("ultralytics/yolo11n.pt", trust=True)


def test_code_in_a_yaml_is_not_run(folder: Path) -> None:
    path = write_yaml(folder)
    path.write_text("activation: __import__('os').mkdir('ran')\n" + path.read_text())
    assert "was not run" in refused(f"ultralytics/{path.name}").what
    assert not Path("ran").exists()
    path.write_text(path.read_text().replace("__import__('os').mkdir('ran')", "nn.ReLU()"))
    network: Any = open_network(f"ultralytics/{path.name}").model
    assert type(network.model[0].act).__name__ == "ReLU"


@pytest.mark.parametrize("layer", ["load_checkpoint", "Convv", "torch.save", "nn.init.zeros_", "nn.Parameter"])
def test_only_layers_are_built(layer: str, folder: Path) -> None:
    path = write_yaml(folder)
    path.write_text(path.read_text().replace("Conv,", f"{layer},", 1))
    error = refused(f"ultralytics/{path.name}")
    assert error.what == f"layer 0 is {layer}, and ultralytics has no such layer"
    assert ("did you mean Conv" in error.hint) is (layer == "Convv")


def test_unknown_names_and_arguments_name_the_nearest() -> None:
    assert "did you mean ultralytics/yolo11n.yaml" in refused("ultralytics/yoloo11n.yaml").hint
    assert "did you mean nc" in refused("ultralytics/yolo11n.yaml", ncc="3").hint


def test_files_that_are_no_networks_are_refused(folder: Path) -> None:
    Path("data.yaml").write_text("train: images\nnames: [a]\n")
    assert "no backbone" in refused("ultralytics/data.yaml").what
    Path("bad.pt").write_bytes(b"no pickle")
    with pytest.raises(WeightsError, match="cannot be opened"):
        open_network("ultralytics/bad.pt", trust=True)


def test_without_ultralytics_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_surgeon.optional_dependencies.find_spec", lambda name: None)
    assert "attn-surgeon[ultralytics]" in refused("ultralytics/yolo11n.yaml").hint


def test_installing_and_logging_are_as_before_afterwards() -> None:
    open_network("ultralytics/yolo11n.yaml", args={"nc": 3})
    from ultralytics.utils import LOGGER, checks

    assert checks.AUTOINSTALL is (os.environ.get("YOLO_AUTOINSTALL", "true").lower() == "true")
    assert LOGGER.level < 40
    assert "ultralytics" in sys.modules


@pytest.mark.slow
def test_the_internet_is_not_asked(folder: Path) -> None:
    code = f"""
import socket, urllib.request, subprocess, sys
def refuse(*args, **kwargs):
    raise AssertionError(f"asked for {{args}}")
socket.getaddrinfo = socket.create_connection = urllib.request.urlopen = refuse
from attn_surgeon.artefact.open_network import open_network
assert "ultralytics" not in sys.modules
open_network("ultralytics/{write_yaml(folder).name}")
print("opened")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    environment["YOLO_CONFIG_DIR"] = str(folder)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert done.stdout == "opened\n", done.stderr
