"""Does attention help? The control experiment with transformers' Trainer: `python examples/compare_hf_trainer.py`.

Trainer trains the network that it is given, so `train` returns nothing. It seeds each run with 42 by itself: pass
`seed=seed`. With `load_best_model_at_end` it loads the best weights into the same network, grafts included;
`save_pretrained` warns, because `from_pretrained` would build a network without grafts.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import attn_surgeon
from attn_surgeon.networks.demo import DEMO_PREPROCESSING, digits


class Rows(Dataset[dict[str, Any]]):
    """The first images of the packaged digits as Trainer takes them; put your own data here."""

    def __init__(self, split: str, images: int) -> None:
        self.data, self.images = digits("demo-clutter", split, transform=DEMO_PREPROCESSING.transform()), images

    def __len__(self) -> int:
        """Return the number of images."""
        return self.images

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one image and its label."""
        image, label = self.data[index][:2]
        return {"pixel_values": image, "labels": label}


def build() -> nn.Module:
    """Return the network; yours comes from `AutoModelForImageClassification.from_pretrained(...)`."""
    small = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
    config = ResNetConfig(num_channels=1, num_labels=10, **small)
    network: nn.Module = ResNetForImageClassification(config)
    return network


def accuracy(predicted: Any) -> dict[str, float]:
    """Return the accuracy, by which Trainer chooses the best epoch."""
    return {"accuracy": float((predicted.predictions.argmax(1) == predicted.label_ids).mean())}


def main(out: str | Path = "runs/compare-hf-trainer", seeds: int = 3, epochs: int = 3, images: int = 400) -> Any:
    """Print and return the comparison."""
    train_rows, val_rows = Rows("train", images), Rows("val", images)

    def trainer(net: nn.Module, folder: Path, **settings: Any) -> Any:
        settings |= {"report_to": [], "disable_tqdm": True, "per_device_train_batch_size": 32}
        arguments = TrainingArguments(str(folder), **settings)
        return Trainer(net, arguments, train_dataset=train_rows, eval_dataset=val_rows, compute_metrics=accuracy)

    def train(net: nn.Module, seed: int, folder: Path) -> None:
        best: dict[str, Any] = {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
        every = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": epochs}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="from_pretrained builds this network")
            trainer(net, folder, seed=seed, learning_rate=1e-3, **best, **every).train()

    def evaluate(net: nn.Module) -> dict[str, Tensor | float]:
        predicted = trainer(net, Path(out) / "evaluate").predict(val_rows)
        hits = torch.from_numpy(predicted.predictions.argmax(1) == predicted.label_ids)
        return {"accuracy": hits, "loss": predicted.metrics["test_loss"]}

    example = torch.randn(1, 1, 32, 32)
    network = attn_surgeon.insert(build(), "se", at="residual", example=example)
    result = attn_surgeon.compare(
        network, train=train, evaluate=evaluate, seeds=seeds, out=out, example=example, smaller_is_better=["loss"]
    )
    print(result)
    return result


if __name__ == "__main__":
    main()
