"""Train the demo detector on digits without clutter: `python -m tests.networks.demo.train_detector`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision

from attn_surgeon.networks.demo import load_demo
from attn_surgeon.networks.demo.box_scenes import SCENES, Scene, draw_digits
from attn_surgeon.networks.demo.detector import DETECTOR_WEIGHTS, demo_detector

BATCH = 16
PEAK_RATE = 3e-3
TRAIN_SCENES = 3200
Target = dict[str, Tensor]


def main() -> None:
    """Train, measure and save, as the command line says."""
    parser = argparse.ArgumentParser(description="Train the demo detector on digits without clutter.")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=DETECTOR_WEIGHTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = train(options.epochs, options.seed)
    save(model, options.output, options.seed)


def train(epochs: int, seed: int) -> nn.Module:
    """Train from the demo network's weights with AdamW and a one-cycle schedule."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model: Any = demo_detector().train()
    model.backbone.load_state_dict(load_demo().state_dict(), strict=False)
    scenes = [draw_digits("train", index, cluttered=False) for index in range(TRAIN_SCENES)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    steps = epochs * (len(scenes) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(epochs):
        order, total = torch.randperm(len(scenes), generator=generator), 0.0
        for chosen in order[: len(scenes) // BATCH * BATCH].view(-1, BATCH).tolist():
            total += _step(model, optimizer, [scenes[index] for index in chosen])
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}  loss {total / (len(scenes) // BATCH):.4f}", flush=True)
    trained: nn.Module = model.eval()
    return trained


def save(model: nn.Module, path: Path, seed: int) -> None:
    """Measure a detector on images without clutter and with it, and save its weights with what was measured."""
    clean, clutter = (mean_average_precision(model, cluttered=cluttered) for cluttered in (False, True))
    metadata = {"map": f"{clean:.6f}", "clutter_map": f"{clutter:.6f}", "seed": str(seed), "torch": torch.__version__}
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path, metadata)
    print(f"mAP without clutter {clean:.4f}, with clutter {clutter:.4f}  {path}")


def mean_average_precision(model: nn.Module, *, cluttered: bool) -> float:
    """Return the mAP of a detector on the validation images."""
    metric: Any = MeanAveragePrecision()
    for index in range(SCENES["val"]):
        image, target = sample(draw_digits("val", index, cluttered=cluttered))
        with torch.inference_mode():
            metric.update(model([image]), [target])
    return float(metric.compute()["map"])


def sample(scene: Scene) -> tuple[Tensor, Target]:
    """Return an image (1, H, W) in 0..1 and the target that torchvision's detectors take."""
    boxes, labels = torch.from_numpy(scene.boxes).float(), torch.from_numpy(scene.labels) + 1
    return torch.from_numpy(scene.pixels)[None] / 255.0, {"boxes": boxes, "labels": labels}


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, scenes: list[Scene]) -> float:
    """Take one step and return the loss."""
    images, targets = zip(*map(sample, scenes), strict=True)
    loss: Tensor = sum(model(list(images), list(targets)).values())
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


if __name__ == "__main__":
    main()
