"""Train a YOLO with grafts on blood cells by ultralytics' trainer, and report what its checkpoints, val and export do.

`python -m tests.integrations.ultralytics_blood_cells DATA` reads `DATA/{train,val}/{images,annotations}`, images with
boxes in Pascal VOC's XML, and writes to a folder beside it or that of `--out`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor

import attn_surgeon

from . import yolos

CLASSES = ("RBC", "WBC", "Platelets")


@dataclass(frozen=True)
class Experiment:
    """What is trained, and for how long."""

    data: Path
    out: Path
    network: str = "yolo11n.yaml"
    block: str = "cbam"
    after: tuple[str, ...] = ("model.16", "model.19", "model.22")
    epochs: int = 10
    imgsz: int = 128

    def settings(self, name: str, epochs: int, fraction: float = 1.0) -> dict[str, Any]:
        return {
            "data": str(self.out / "data.yaml"),
            "imgsz": self.imgsz,
            "epochs": epochs,
            "fraction": fraction,
            "batch": 16,
            "nbs": 16,
            "warmup_epochs": 1,
            "device": "cpu",
            "workers": 0,
            "plots": False,
            "verbose": False,
            "project": str(self.out),
            "name": name,
            "exist_ok": True,
        }


def write_yolo_text(data: Path, out: Path) -> None:
    """Write the labels as YOLO text beside links to the images."""
    for part in ("train", "val"):
        for folder in ("images", "labels"):
            (out / part / folder).mkdir(parents=True, exist_ok=True)
        for annotation in sorted((data / part / "annotations").glob("*.xml")):
            root = ElementTree.parse(annotation).getroot()
            image = next((data / part / "images").glob(f"{annotation.stem}.*"))
            link = out / part / "images" / image.name
            if not link.exists():
                link.symlink_to(image.resolve())
            lines = [_line(item, root) for item in root.iter("object")]
            (out / part / "labels" / f"{annotation.stem}.txt").write_text("".join(lines))
    (out / "data.yaml").write_text(
        f"path: {out.resolve()}\ntrain: train/images\nval: val/images\nnames: {list(CLASSES)}\n"
    )


def _line(item: Any, root: Any) -> str:
    width, height = (float(root.findtext(f"size/{side}")) for side in ("width", "height"))
    left, top, right, bottom = (float(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    box = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
    return f"{CLASSES.index(item.findtext('name'))} {' '.join(f'{value:.6f}' for value in box)}\n"


def yolo(path: str | Path) -> Any:
    from attn_surgeon.integrations.ultralytics import YOLO

    return YOLO(path)


def grafted(experiment: Experiment) -> Any:
    return yolo(experiment.network).insert(experiment.block, after=experiment.after, imgsz=experiment.imgsz)


def values(network: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """Return the largest change of the parameters of each graft."""
    largest: dict[str, float] = {}
    for name, value in before.items():
        place, inside, _ = name.partition(".attn_surgeon.")
        if inside and value.is_floating_point():
            largest[place] = max(largest.get(place, 0.0), (after[name] - value).abs().max().item())
    return largest


def trained(experiment: Experiment) -> dict[str, Any]:
    """Train from random weights; report how far the grafts have moved."""
    model = grafted(experiment)
    starts: list[dict[str, Tensor]] = []
    model.add_callback("on_train_start", lambda trainer: starts.append(values(trainer.model)))
    began = time.monotonic()
    model.train(**experiment.settings("first", experiment.epochs))
    moved = changed(starts[0], values(model.model))
    return {
        "seconds": round(time.monotonic() - began),
        "grafts": len(moved),
        "smallest largest change of a graft": min(moved.values()),
        "largest change": max(moved.values()),
    }


def validated(experiment: Experiment) -> dict[str, Any]:
    """Report the mAP of `best.pt` as ultralytics' own class computes it, whole and with each graft closed alone."""
    best = experiment.out / "first" / "weights" / "best.pt"
    settings = {key: experiment.settings("val", 1)[key] for key in ("data", "imgsz", "plots", "verbose", "project")}

    def mean_precision(close: str = "") -> tuple[float, float]:
        from ultralytics import YOLO

        model = YOLO(best)
        with attn_surgeon.disabled(model.model, {"": [], "all": "**"}.get(close, close)):
            box = model.val(**settings).box
        return round(float(box.map), 6), round(float(box.map50), 6)

    places = [item.graft.site for item in attn_surgeon.list_grafts(yolo(best).model)]
    closed = {place: mean_precision(place) for place in places}
    return {"whole": mean_precision(), "all grafts closed": mean_precision("all"), "closed alone": closed}


@torch.no_grad()
def exported(experiment: Experiment) -> dict[str, Any]:
    """Compare the file of ultralytics' ONNX exporter with PyTorch, on validation images, grafts open and closed."""
    import onnxruntime
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import resize

    best = experiment.out / "first" / "weights" / "best.pt"
    file = yolo(best).export(format="onnx", imgsz=experiment.imgsz, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    network = yolo(best).model.eval()
    paths = sorted((experiment.out / "val" / "images").iterdir())[:8]
    side = [experiment.imgsz, experiment.imgsz]
    images = torch.stack([resize(decode_image(str(path), ImageReadMode.RGB), side) for path in paths]) / 255
    ours = torch.cat([torch.from_numpy(session.run(None, {"images": image[None].numpy()})[0]) for image in images])
    theirs = network(images)[0]
    with attn_surgeon.disabled(network):
        closed = network(images)[0]
    return {
        "largest output": theirs.abs().max().item(),
        "largest difference, ONNX to PyTorch": (ours - theirs).abs().max().item(),
        "largest difference, PyTorch to PyTorch with all grafts closed": (closed - theirs).abs().max().item(),
    }


def second_round(experiment: Experiment) -> dict[str, Any]:
    """Train `best.pt` again; report that it starts from the file's values, and trains on."""
    best = yolo(experiment.out / "first" / "weights" / "best.pt")
    saved = values(best.model)
    starts: list[dict[str, Tensor]] = []
    best.add_callback("on_train_start", lambda trainer: starts.append(values(trainer.model)))
    best.train(**experiment.settings("second", 2, 0.25))
    moved = changed(saved, values(best.model))
    return {
        "starts from the checkpoint": all(torch.equal(value, starts[0][name]) for name, value in saved.items()),
        "smallest largest change of a graft": min(moved.values()),
    }


def _train(experiment: Experiment) -> None:
    grafted(experiment).train(**experiment.settings("killed", 3, 0.25))


def killed(experiment: Experiment) -> dict[str, Any]:
    """Kill a training in its second epoch, resume it, and report where it went on."""
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(experiment,))
    process.start()
    table, last = (experiment.out / "killed" / name for name in ("results.csv", "weights/last.pt"))
    while process.is_alive() and not (last.exists() and len(table.read_text().splitlines()) > 1):
        time.sleep(0.05)
    time.sleep(0.2)
    if process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    resumed = yolo(last)
    saved = values(resumed.model)
    starts: list[tuple[int, dict[str, Tensor]]] = []
    resumed.add_callback("on_train_start", lambda trainer: starts.append((trainer.start_epoch, values(trainer.model))))
    resumed.train(resume=True)
    begun, start = starts[0]
    return {
        "exit code": process.exitcode,
        "resumed at epoch": begun + 1,
        "with the grafts' values": all(torch.equal(value, start[name]) for name, value in saved.items()),
        "epochs in results.csv": len(table.read_text().splitlines()) - 1,
        "smallest largest change of a graft": min(changed(saved, values(resumed.model)).values()),
    }


STEPS: tuple[Callable[[Experiment], dict[str, Any]], ...] = (trained, validated, exported, second_round, killed)


def run(experiment: Experiment) -> dict[str, Any]:
    """Do all steps, and write and return what they report."""
    experiment.out.mkdir(parents=True, exist_ok=True)
    write_yolo_text(experiment.data, experiment.out)
    report: dict[str, Any] = {}
    for step in STEPS:
        report[step.__name__] = step(experiment)
        (experiment.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def main() -> None:
    assert yolos.CLASSES  # its import has kept ultralytics from the network
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/blood-cells"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--block", default="cbam")
    given = parser.parse_args()
    report = run(Experiment(given.data, given.out, block=given.block, epochs=given.epochs, imgsz=given.imgsz))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
