"""A YOLO of a few layers, and images with a box each, as ultralytics reads them.

Where it was not imported before, ultralytics works without network and installations, and with settings of its own.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor, nn

import attn_surgeon

_SETTINGS = tempfile.TemporaryDirectory()
for _name, _value in {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": _SETTINGS.name}.items():
    os.environ.setdefault(_name, _value)

CLASSES = ("red", "green", "blue")
YAML = """
nc: 3
scales:
  n: [1.0, 1.0, 1024]
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 2], 1, Concat, [1]]
  - [-1, 1, C2f, [16]]
  - [[7, 4], 1, {head}]
"""
SETTINGS: dict[str, Any] = {
    "imgsz": 64,
    "batch": 2,
    "nbs": 2,
    "warmup_epochs": 0,
    "device": "cpu",
    "workers": 0,
    "plots": False,
    "verbose": False,
    "optimizer": "SGD",
    "lr0": 0.01,
}


def write_yaml(folder: Path, head: str = "Detect, [nc]", classes: int = 3) -> Path:
    path = folder / "yolo11n-tiny.yaml"
    path.write_text(YAML.replace("{head}", head).replace("nc: 3", f"nc: {classes}"))
    return path


def write_data(folder: Path, *, images: int = 4, label: str = "0.4 0.4 0.4 0.4", more: str = "") -> Path:
    """Write images of rectangles with labels, and the YAML that names them."""
    for part in ("train", "val"):
        (folder / part / "images").mkdir(parents=True)
        (folder / part / "labels").mkdir()
        for index in range(images):
            image = Image.new("RGB", (64, 64), (40, 40, 40))
            ImageDraw.Draw(image).rectangle((13, 13, 38, 38), CLASSES[index % 3])
            image.save(folder / part / "images" / f"{index}.png")
            (folder / part / "labels" / f"{index}.txt").write_text(f"{index % 3} {label}\n")
    path = folder / "data.yaml"
    path.write_text(f"path: {folder}\ntrain: train/images\nval: val/images\nnames: {list(CLASSES)}\n{more}")
    return path


SITES = ["model.2", "model.4.m.0.cv2"]


class StoppedError(Exception):
    """The trainer has been stopped by a test."""


def integration() -> Any:
    from attn_surgeon.integrations import ultralytics

    return ultralytics


def grafted(folder: Path, **choices: Any) -> Any:
    return integration().YOLO(write_yaml(folder)).insert("se", imgsz=64, **({"after": SITES} | choices))


def plain_yolo(path: Path) -> Any:
    from ultralytics import YOLO

    return YOLO(path)


def values(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def places(network: nn.Module) -> list[str]:
    return [graft.place for graft in attn_surgeon.list_grafts(network)]


def started(yolo: Any, data: Path, event: str = "on_train_start", **settings: Any) -> Any:
    """Return the trainer as it begins to train."""
    found: list[Any] = []

    def stop(trainer: Any) -> None:
        found.append(trainer)
        raise StoppedError

    yolo.add_callback(event, stop)
    with suppress(StoppedError):
        yolo.train(data=str(data), **SETTINGS, **settings)
    yolo.callbacks[event].remove(stop)
    return found[0]
