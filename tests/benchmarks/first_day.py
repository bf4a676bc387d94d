"""What a pretrained network is worth the moment attention is in: python -m tests.benchmarks.first_day.

The same blocks at the end of each residual branch of a CIFAR-10 ResNet-20: as attn-surgeon inserts them, by their
published formula with its usual start, and as timm makes them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from timm.layers import create_attn
from torch import nn

from attn_surgeon import insert, register_block
from attn_surgeon.subject import Subject
from attn_surgeon.train.data import ImageData
from attn_surgeon.train.evaluation.evaluate import evaluate

from .cifar import images, resnet20

BLOCKS = {"se": {"rd_ratio": 1 / 16}, "eca": {}, "cbam": {"rd_ratio": 1 / 16}}
SEEDS = range(3)


def of_timm(name: str) -> Callable[[int], nn.Module]:
    """Give what makes timm's own block."""
    return lambda channels: create_attn(name, channels, **BLOCKS[name])


def accuracy(subject: Subject, data: ImageData, block: str, init: str, seed: int) -> float:
    """Insert a block and count what is right, in per cent."""
    model = insert(subject.model, block, at="residual", example=subject.example, init=init, seed=seed)
    return 100 * evaluate(model, data).top1


def cell(values: list[float]) -> str:
    """Write mean ± standard deviation."""
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    subject = resnet20()
    data = images(subject)
    print(f"before: {100 * evaluate(subject.model, data).top1:.2f} %\n")
    print("| block | attn-surgeon | its published start | timm's |\n|---|---|---|---|")
    for name in BLOCKS:
        register_block(f"timm-{name}", of_timm(name))
        forms = ((name, "identity"), (name, "paper"), (f"timm-{name}", "paper"))
        cells = [cell([accuracy(subject, data, block, init, seed) for seed in SEEDS]) for block, init in forms]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
