"""Train a YOLO of ultralytics with attention, compare it with its control, export it.

`python examples/compare_ultralytics.py data.yaml --model yolo11n.pt`, where data.yaml names your images as ultralytics
reads them. ultralytics is under the AGPL-3.0.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import nn

import attn_surgeon
from attn_surgeon.integrations.ultralytics import YOLO


def main(
    data: str | Path,
    out: str | Path = "runs/compare-ultralytics",
    model: str | Path = "yolo11n.yaml",
    block: str = "cbam",
    after: tuple[str, ...] = ("model.16", "model.19", "model.22"),  # what the head takes, as the YAML numbers it
    seeds: int = 3,
    **settings: Any,
) -> Any:
    """Print and return the comparison; `settings` are those of ultralytics' `train`, such as epochs and imgsz."""
    out = Path(out).absolute()  # ultralytics puts a relative folder under its own runs/detect
    network = YOLO(model).insert(block, after=after).model
    size = {"imgsz": settings.get("imgsz", 640)}

    def train(net: nn.Module, seed: int, folder: Path) -> nn.Module:
        yolo = YOLO(net)  # training begins with the weights of the network that is passed
        yolo.train(data=data, seed=seed, project=str(folder), name="run", exist_ok=True, **settings)
        return yolo.model  # type: ignore[no-any-return]

    def evaluate(net: nn.Module) -> dict[str, float]:
        box = YOLO(net).val(data=data, project=str(out), name="val", exist_ok=True, plots=False, **size).box
        return {"mAP50-95": float(box.map), "mAP50": float(box.map50)}

    result = attn_surgeon.compare(network, train=train, evaluate=evaluate, seeds=seeds, out=out)
    print(result)
    best = out / "seed-0-grafts" / "run" / "weights" / "best.pt"
    try:
        print(f"exported {YOLO(best).export(format='onnx', **size)}")
    except Exception as error:  # the comparison is there whatever the exporter lacks
        print(f"the comparison is in {out}, but {best} was not exported: {error}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default="runs/compare-ultralytics")
    parser.add_argument("--model", default="yolo11n.yaml")
    parser.add_argument("--block", default="cbam")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--imgsz", type=int, default=640)
    given = vars(parser.parse_args())
    main(given.pop("data"), **given)
