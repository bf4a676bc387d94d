"""Does attention help? The control experiment in a training with Lightning: `python examples/compare_lightning.py`.

Lightning trains a LightningModule around the network. Return it, here with the weights of its best epoch: the grafts
are found, checked and bypassed in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

import attn_surgeon
from attn_surgeon.networks.demo import DEMO_PREPROCESSING, digits, load_demo


class Classifier(lightning.LightningModule):  # type: ignore[misc]
    """Your LightningModule: any that takes the network, instead of building it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K)."""
        logits: Tensor = self.net(x)
        return logits

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss of a batch."""
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Log the accuracy on a batch."""
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Train all parameters, the grafts' included."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def loader(split: str, images: int) -> DataLoader[Any]:
    """Return the first images of the packaged digits; put your own data here."""
    data = digits("demo-clutter", split, transform=DEMO_PREPROCESSING.transform())
    return DataLoader(Subset(data, range(images)), batch_size=32, shuffle=split == "train")


def main(out: str | Path = "runs/compare-lightning", seeds: int = 3, epochs: int = 3, images: int = 400) -> Any:
    """Print and return the comparison."""
    val = loader("val", images)

    def train(net: nn.Module, seed: int, folder: Path) -> nn.Module:
        best = ModelCheckpoint(folder, monitor="accuracy", mode="max")
        trainer = lightning.Trainer(max_epochs=epochs, callbacks=[best], logger=False, enable_progress_bar=False)
        trainer.fit(Classifier(net), loader("train", images), val)
        task: nn.Module = Classifier.load_from_checkpoint(best.best_model_path, net=net)
        return task

    def evaluate(net: nn.Module) -> dict[str, Tensor]:
        device = next(net.parameters()).device  # where Lightning left it
        with torch.no_grad():
            hits = [net(x.to(device)).argmax(1) == y.to(device) for x, y in val]
        return {"accuracy": torch.cat(hits)}  # one value an image: the interval is over images too

    example = torch.randn(1, 1, 32, 32)
    network = attn_surgeon.insert(load_demo(), "cbam", at="stages", example=example)
    result = attn_surgeon.compare(network, train=train, evaluate=evaluate, seeds=seeds, out=out, example=example)
    print(result)
    return result


if __name__ == "__main__":
    main()
