"""Does attention help? The control experiment as torchvision trains: `python examples/compare_torchvision.py`.

SGD with momentum, warmup and a cosine, label smoothing, mixup or cutmix of each batch, and an average of the weights,
as in torchvision's reference for classification. The average is what is evaluated, so `train` returns it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset, default_collate
from torchvision.models import resnet18
from torchvision.transforms import v2

import attn_surgeon
from attn_surgeon.networks.demo import digits

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PLAIN = [v2.ToImage(), v2.Grayscale(3), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.3] * 3, [0.32] * 3)]
AUGMENTED = [v2.RandomResizedCrop(32, (0.7, 1.0), antialias=True), v2.TrivialAugmentWide(), *PLAIN]
MIX = v2.RandomChoice([v2.MixUp(alpha=0.2, num_classes=10), v2.CutMix(num_classes=10)])


def mixed(items: list[Any]) -> tuple[Tensor, Tensor]:
    """Return a batch of images (N, C, H, W) and soft labels (N, K), mixed in pairs."""
    images, labels = MIX(*default_collate(items))
    return images, labels


def loader(split: str, images: int) -> DataLoader[Any]:
    """Return the first images of the packaged digits; put `torchvision.datasets.ImageFolder(...)` here."""
    training = split == "train"
    data = digits("demo-clutter", split, transform=v2.Compose(AUGMENTED if training else PLAIN))
    return DataLoader(Subset(data, range(images)), 32, shuffle=training, collate_fn=mixed if training else None)


def main(out: str | Path = "runs/compare-torchvision", seeds: int = 3, epochs: int = 5, images: int = 400) -> Any:
    """Print and return the comparison."""
    train_data, val_data = loader("train", images), loader("val", images)

    def train(net: nn.Module, seed: int, folder: Path) -> nn.Module:
        net.to(DEVICE)
        decay: Any = get_ema_multi_avg_fn(0.9)  # type: ignore[no-untyped-call]
        average = AveragedModel(net, multi_avg_fn=decay, use_buffers=True)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
        steps = epochs * len(train_data)
        warmup = LinearLR(optimizer, 0.1, total_iters=max(1, steps // 10))
        schedule = SequentialLR(optimizer, [warmup, CosineAnnealingLR(optimizer, steps)], [max(1, steps // 10)])
        loss = nn.CrossEntropyLoss(label_smoothing=0.1)
        for _ in range(epochs):
            for x, y in train_data:
                optimizer.zero_grad()
                loss(net(x.to(DEVICE)), y.to(DEVICE)).backward()
                optimizer.step()
                schedule.step()
                average.update_parameters(net)
        return average

    def evaluate(net: nn.Module) -> dict[str, Tensor]:
        net.to(DEVICE)
        with torch.no_grad():
            hits = [net(x.to(DEVICE)).argmax(1) == y.to(DEVICE) for x, y in val_data]
        return {"top1": torch.cat(hits)}  # one value an image: the interval is over images too

    example = torch.randn(1, 3, 32, 32)
    plain = resnet18(num_classes=10)  # yours with weights="DEFAULT", and a new fc
    network = attn_surgeon.insert(plain, "se", at="stages", example=example)
    result = attn_surgeon.compare(network, train=train, evaluate=evaluate, seeds=seeds, out=out, example=example)
    print(result)
    return result


if __name__ == "__main__":
    main()
