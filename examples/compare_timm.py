"""Does attention help? The control experiment in timm's training loop: `python examples/compare_timm.py`.

timm's `train.py` is no part of the installed package; this is its loop in short, with its loader, mixup, optimizer,
schedule and average of the weights. The average is what is evaluated, so `train` returns it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import Mixup, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

import attn_surgeon
from attn_surgeon.networks.demo import MEAN, SIZE, STD, digits

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def loader(split: str, images: int) -> Any:
    """Return timm's loader of the first images of the packaged digits; put `timm.data.create_dataset(...)` here."""
    data: Any = digits("demo-clutter", split)
    data.labels = data.labels[:images]
    return create_loader(
        data,
        input_size=(1, *SIZE),
        batch_size=32,
        is_training=split == "train",
        hflip=0.0,
        color_jitter=None,
        scale=(0.7, 1.0),
        mean=MEAN,
        std=STD,
        num_workers=0,
        persistent_workers=False,
        use_prefetcher=False,
        device=DEVICE,
    )


def main(
    out: str | Path = "runs/compare-timm",
    seeds: int = 3,
    epochs: int = 5,
    images: int = 400,
    name: str = "resnet10t",
) -> Any:
    """Print and return the comparison."""
    train_data, val_data = loader("train", images), loader("val", images)

    def train(net: nn.Module, seed: int, folder: Path) -> nn.Module:
        net.to(DEVICE)
        average = ModelEmaV3(net, decay=0.99, use_warmup=True)
        optimizer = create_optimizer_v2(net, opt="adamw", lr=2e-3, weight_decay=0.05)
        schedule, _ = create_scheduler_v2(
            optimizer,
            "cosine",
            num_epochs=epochs,
            warmup_epochs=1,
            step_on_epochs=False,
            updates_per_epoch=len(train_data),
        )
        mixup, loss, step = Mixup(mixup_alpha=0.1, num_classes=10), SoftTargetCrossEntropy(), 0
        for _ in range(epochs):
            for batch, labels in train_data:
                x, y = mixup(batch.to(DEVICE), labels.to(DEVICE))
                optimizer.zero_grad()
                loss(net(x), y).backward()
                optimizer.step()
                step += 1
                average.update(net, step=step)
                schedule.step_update(step)
        trained: nn.Module = average.module
        return trained

    def evaluate(net: nn.Module) -> dict[str, Tensor]:
        net.to(DEVICE)
        with torch.no_grad():
            hits = [net(x.to(DEVICE)).argmax(1) == y.to(DEVICE) for x, y in val_data]
        return {"top1": torch.cat(hits)}  # one value an image: the interval is over images too

    example = torch.randn(1, 1, *SIZE)
    plain = timm.create_model(name, in_chans=1, num_classes=10)  # yours with pretrained=True
    network = attn_surgeon.insert(plain, "eca", at="residual", example=example)
    result = attn_surgeon.compare(network, train=train, evaluate=evaluate, seeds=seeds, out=out, example=example)
    print(result)
    return result


if __name__ == "__main__":
    main()
