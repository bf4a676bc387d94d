"""Train the demo network on the clean digits: `python -m tests.networks.demo.train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from attn_surgeon.data.opening import open_dataset
from attn_surgeon.networks.demo.digits import CLASS_NAMES, DEMO_PREPROCESSING, DIGITS, MEAN, SEED, STD, digits
from attn_surgeon.networks.demo.network import WEIGHTS, demo
from attn_surgeon.tasks.accuracy import Accuracy, measure_accuracy

BATCH = 64
PEAK_RATE = 0.01
VAL_SHARE = 0.3


def main() -> None:
    """Train, measure and save, as the command line says."""
    parser = argparse.ArgumentParser(description="Train the demo network on the clean digits.")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--pack-digits", action="store_true", help="first make digits.npz with scikit-learn")
    options = parser.parse_args()
    # Sums are split over the threads: another number of threads ends in other last bits.
    torch.set_num_threads(2)
    if options.pack_digits:
        pack_digits(DIGITS)
    model = train(options.epochs, options.seed)
    save(model, options.output, options.seed)


def train(epochs: int, seed: int) -> nn.Module:
    """Train a fresh network with AdamW and a one-cycle schedule."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = demo().train()
    images, labels = _stacked("train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    steps = epochs * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        loss = 0.0
        for chosen in order[: len(labels) // BATCH * BATCH].view(-1, BATCH):
            loss = _step(model, optimizer, augment(images[chosen], generator), labels[chosen])
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}  loss {loss:.4f}", flush=True)
    return model.eval()


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by up to 12 degrees, scale by up to 12 % and shift by up to 2 pixels, images (N, 1, H, W)."""
    angle, scale, right, down = (2 * torch.rand(4, len(images), generator=generator) - 1).unbind()
    angle, scale = angle * torch.pi / 15, 1 + 0.12 * scale
    right, down = right / 8, down / 8
    rows = [scale * angle.cos(), -scale * angle.sin(), right, scale * angle.sin(), scale * angle.cos(), down]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    # Black is not zero once normalised: move it there, so that what enters at the border is black.
    black = -MEAN[0] / STD[0]
    return F.grid_sample(images - black, grid, align_corners=False) + black


def save(model: nn.Module, path: Path, seed: int) -> None:
    """Measure a network on both tasks and save its weights with what was measured."""
    clean, clutter = _score(model, "demo"), _score(model, "demo-clutter")
    metadata = {
        "accuracy": f"{clean.top1:.6f}",
        "clutter_accuracy": f"{clutter.top1:.6f}",
        "seed": str(seed),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path, metadata)
    print(f"clean {clean.correct}/{clean.images}  clutter {clutter.correct}/{clutter.images}  {path}")


def pack_digits(path: Path) -> None:
    """Store scikit-learn's digits as bytes, with a stratified choice of images for validation."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    random = np.random.default_rng(SEED)
    val = np.zeros(len(found.target), dtype=bool)
    for label in range(len(CLASS_NAMES)):
        members = random.permutation(np.flatnonzero(found.target == label))
        val[members[: round(VAL_SHARE * len(members))]] = True
    labels = found.target.astype(np.uint8)
    np.savez_compressed(path, images=found.images.astype(np.uint8), labels=labels, val=val)


def _stacked(split: str) -> tuple[Tensor, Tensor]:
    """Load the clean digits as images (N, 1, H, W) and labels (N,)."""
    dataset: Any = digits("demo", split, transform=DEMO_PREPROCESSING.transform())
    items = [dataset[index] for index in range(len(dataset))]
    return torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """Take one step on images (N, 1, H, W) and return the loss."""
    loss = F.cross_entropy(model(images), labels, label_smoothing=0.05)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def _score(model: nn.Module, task: str) -> Accuracy:
    """Measure a network on a task's validation images."""
    return measure_accuracy(model, open_dataset(task, "val", DEMO_PREPROCESSING))


if __name__ == "__main__":
    main()
