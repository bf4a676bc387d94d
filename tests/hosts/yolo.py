"""Hosts of ultralytics: fusing, its backends, its exporter, its checkpoints and its trainer."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .networks import Placements, settled

CONV = Placements("model.1", "model.1.bn", "model.5")
NORM = Placements("model.1.conv", "model.2.cv1.bn", "model.3.bn")
C2F = Placements("model.4", "model.2.m.0", "model.2.cv2")


@contextmanager
def offline() -> Iterator[None]:
    """Work in a folder of its own, without downloads and installations."""
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        yield


def detector(name: str = "yolov8n.yaml") -> nn.Module:
    from ultralytics.nn.tasks import DetectionModel

    return settled(DetectionModel(name, ch=3, nc=4, verbose=False), image().repeat(2, 1, 1, 1))


def newer() -> nn.Module:
    return detector("yolo11n.yaml")


def image() -> Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def boxes(network: Any, x: Any) -> Any:
    """Give the boxes of all anchors before any are dropped."""
    output = network(x)
    return output[0] if isinstance(output, (tuple, list)) else output


class Boxes(nn.Module):
    """The network with only its boxes as output."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return boxes(self.network, x)


def fused(network: Any, x: Any) -> Any:
    return Boxes(network.fuse(verbose=False))


def backend(network: Any, x: Any) -> Any:
    """Make the backend that `predict` and `val` run."""
    from ultralytics.nn.autobackend import AutoBackend

    return Boxes(AutoBackend(model=network, device=torch.device("cpu"), fuse=True, verbose=False))


def predicted(network: Any, x: Any) -> Any:
    """Run `predict` and give what its network put out."""
    model, seen = _yolo(network), []

    def run(x: Any) -> Any:
        model.predict(x, imgsz=64, verbose=False, save=False)
        model.predictor.model.register_forward_hook(lambda module, inputs, output: seen.append(output))
        model.predict(x, imgsz=64, verbose=False, save=False)
        return seen[-1][0] if isinstance(seen[-1], (tuple, list)) else seen[-1]

    return run


def _yolo(network: Any) -> Any:
    from ultralytics import YOLO
    from ultralytics.utils import DEFAULT_CFG_DICT

    model = YOLO("yolov8n.yaml", verbose=False)
    model.model = network
    network.args = {**DEFAULT_CFG_DICT, "imgsz": 64, "model": "yolov8n.yaml"}
    network.task, network.pt_path = "detect", "yolov8n.pt"
    return model


def torchscript(network: Any, x: Any) -> Any:
    path = _yolo(network).export(format="torchscript", imgsz=64, verbose=False)
    return Boxes(torch.jit.load(path))  # type: ignore[no-untyped-call]


def onnx(network: Any, x: Any) -> Any:
    import onnxruntime

    path = _yolo(network).export(format="onnx", imgsz=64, simplify=False, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def checkpoint(network: Any, x: Any) -> Any:
    """Save as the trainer does, in half precision, and load it again."""
    from ultralytics.nn.tasks import load_checkpoint

    path = Path("best.pt")
    torch.save({"ema": copy.deepcopy(network).half(), "train_args": {"task": "detect"}}, path)
    return Boxes(load_checkpoint(path)[0])


def checkpoint_fused(network: Any, x: Any) -> Any:
    from ultralytics.nn.tasks import load_checkpoint

    path = Path("best.pt")
    torch.save({"model": network, "train_args": {"task": "detect"}}, path)
    return Boxes(load_checkpoint(path, fuse=True)[0])


def averaged(network: Any, x: Any) -> Any:
    from ultralytics.utils.torch_utils import ModelEMA

    average = ModelEMA(network)
    average.update(network)
    return Boxes(average.ema.eval())


class _StartedError(Exception):
    """The trainer has its network."""


def trained(network: Any, x: Any) -> Any:
    """Begin to train with the network in place of ultralytics' own, and give the one that the trainer would train."""
    model = _yolo(network)
    model.ckpt = {"model": network}
    return _started(model)


def trained_by_integration(network: Any, x: Any) -> Any:
    from attn_surgeon.integrations.ultralytics import YOLO

    return _started(YOLO(network))


def _started(model: Any) -> Any:
    held: list[Any] = []

    def start(trainer: Any) -> None:
        held.append(trainer.model)
        raise _StartedError

    model.add_callback("on_train_start", start)
    with suppress(_StartedError):
        model.train(data=str(_data()), imgsz=64, epochs=1, batch=2, device="cpu", workers=0, plots=False, verbose=False)
    return Boxes(held[0].eval())


def _data() -> Path:
    """Write two images with a box each."""
    from PIL import Image

    root = Path("data").absolute()
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for index in range(2):
        Image.new("RGB", (64, 64), (40 * index, 90, 30)).save(root / "images" / f"{index}.png")
        (root / "labels" / f"{index}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    path = root / "data.yaml"
    path.write_text(f"path: {root}\ntrain: images\nval: images\nnames: [a, b, c, d]\n")
    return path
