"""What a pretrained network is worth the moment attention is in: python -m tests.benchmarks.first_day.

The same blocks at the end of each residual branch of a CIFAR-10 ResNet-20: as attn-surgeon inserts them, by their
published formula with its usual start, and as timm makes them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence

import torch
from matplotlib.figure import Figure
from timm.layers import create_attn
from torch import nn

from attn_surgeon import insert, register_block
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.data.images import ImageData
from attn_surgeon.tasks.accuracy import measure_accuracy

from .cifar import images, resnet20

BLOCKS = {"se": {"rd_ratio": 1 / 16}, "eca": {}, "cbam": {"rd_ratio": 1 / 16}}
SEEDS = range(3)
FORMS = ("attn-surgeon", "by its published start", "timm's module")


def of_timm(name: str) -> Callable[[int], nn.Module]:
    """Give what makes timm's own block."""
    return lambda channels: create_attn(name, channels, **BLOCKS[name])


def accuracy(loaded: LoadedNetwork, data: ImageData, block: str, init: str, seed: int) -> float:
    """Insert a block and count what is right, in per cent."""
    model = insert(loaded.model, block, at="residual", example=loaded.example, init=init, seed=seed)
    return 100 * measure_accuracy(model, data).top1


def measured(loaded: LoadedNetwork, data: ImageData, name: str) -> list[list[float]]:
    """Measure a block three ways, each with three seeds."""
    register_block(f"timm-{name}", of_timm(name))
    forms = ((name, "identity"), (name, "paper"), (f"timm-{name}", "paper"))
    return [[accuracy(loaded, data, block, init, seed) for seed in SEEDS] for block, init in forms]


def cell(values: list[float]) -> str:
    """Write mean ± standard deviation."""
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def draw(found: dict[str, list[list[float]]], before: float, file: str) -> None:
    """Draw the table as bars, beside the accuracy before."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.subplots()
    for number, (form, colour) in enumerate(zip(FORMS, ("#1f6feb", "#d29922", "#8b949e"), strict=True)):
        places = [place + 0.27 * (number - 1) for place in range(len(found))]
        means = [statistics.mean(values[number]) for values in found.values()]
        spread = [statistics.stdev(values[number]) for values in found.values()]
        bars = axes.bar(places, means, 0.25, yerr=spread, color=colour, label=form)
        axes.bar_label(bars, fmt="%.0f", fontsize="small")
    axes.axhline(before, color="black", linewidth=0.8, linestyle="--", label=f"without a block: {before:.1f}")
    axes.set(xticks=range(len(found)), xticklabels=list(found), ylim=(0, 112), ylabel="top-1 before any training, %")
    axes.legend(fontsize="small", ncols=2, loc="upper right")
    figure.savefig(file, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and draw it where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", metavar="FILE")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    loaded = resnet20()
    data = images(loaded)
    before = 100 * measure_accuracy(loaded.model, data).top1
    print(f"before: {before:.2f} %\n")
    print(f"| block | {' | '.join(FORMS)} |\n|---|---|---|---|")
    found = {}
    for name in BLOCKS:
        found[name] = measured(loaded, data, name)
        print(f"| `{name}` | {' | '.join(map(cell, found[name]))} |", flush=True)
    if given.picture:
        draw(found, before, given.picture)


if __name__ == "__main__":
    main()
